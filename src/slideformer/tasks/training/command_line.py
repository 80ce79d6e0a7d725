# SPDX-License-Identifier: Apache-2.0
"""The command line of a training: Lightning's, with short options, recipes by name, and a run's folder."""

from __future__ import annotations

import difflib
import re
import sys
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from math import inf
from pathlib import Path
from typing import Any, cast

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only

from slideformer.console import print_line
from slideformer.errors import UserError, check_range
from slideformer.files import write_text
from slideformer.tasks.table import Task
from slideformer.tasks.training.callbacks import AtomicFiles, Board, Metrics, callbacks
from slideformer.tasks.training.options import naming_options, option_names
from slideformer.tasks.training.recipes import (
    FINE_TUNE,
    config_option,
    find_config,
    read_config,
    recipe_names,
    values_of,
)
from slideformer.tasks.training.run_folder import STATE, RunFolder, read_checkpoint, score_so_far
from slideformer.tasks.training.settings import MODE, read_settings


def expand(task: Task, words: Sequence[str]) -> list[str]:
    """Convert the command line to Lightning's: short options, recipes by name, ``--resume`` with a folder."""
    result = default_recipe(task, words)
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in task.short:
            result.append(task.short[option] + equals + value)
        elif option == "--resume" and equals:
            result += [option, value]
        elif option in ("--config", "-c"):
            result.append(config_option(task.name, value if equals else next(rest, "")))
        else:
            result.append(word)
    return expand_resume(result)


def default_recipe(task: Task, words: Sequence[str]) -> list[str]:
    """The recipe of a training that starts from weights and names none: smaller steps than from nothing."""
    given = {word.partition("=")[0] for word in words}
    if not given & {"--weights", "--model.weights"} or given & {"--config", "-c", "--resume"}:
        return []
    if FINE_TUNE not in recipe_names(task.name):
        return []
    print_line(
        f"a training from weights starts with the recipe {FINE_TUNE} "
        f"({', '.join(values_of(read_config(task.name, find_config(task.name, FINE_TUNE))))}); "
        "--config replaces it"
    )
    return [config_option(task.name, FINE_TUNE)]


def expand_resume(words: list[str]) -> list[str]:
    """Convert ``--resume`` to ``--resume true``; with a folder, to that run's configuration and output."""
    words = [
        part for word in words for part in (word.split("=", 1) if word.startswith("--resume=") else [word])
    ]
    if "--resume" not in words:
        return words
    place = words.index("--resume")
    before, after = words[:place], words[place + 1 :]
    if not after or after[0].startswith("--"):
        return [*before, "--resume=true", *after]
    if after[0].lower() in ("true", "false"):
        return [*before, f"--resume={after[0]}", *after[1:]]
    folder = RunFolder(Path(after[0]))
    folder.checkpoint_to_resume()
    read_settings(folder.config)
    return [f"--config={folder.config}", *before, f"--output={folder.path}", "--resume=true", *after[1:]]


# Ranges of Lightning's numbers, of which it accepts others and fails later.
MOST = 1_000_000
RANGES = {
    "max_epochs": (1, MOST),
    "accumulate_grad_batches": (1, MOST),
    "check_val_every_n_epoch": (1, inf),
    "gradient_clip_val": (0, inf),
    "log_every_n_steps": (1, inf),
    "num_sanity_val_steps": (-1, inf),
}


def check_trainer(config: Any) -> None:
    """Check what Lightning accepts and fails on later, or what leaves a run without an end."""
    for option, (least, most) in RANGES.items():
        check_range(f"--trainer.{option}", config[option], least, most)
    if config.val_check_interval == 0:
        raise UserError("--trainer.val_check_interval must be above 0, got 0; leave it out for once an epoch")
    if config.max_epochs is None or config.max_steps != -1 or config.max_time is not None:
        raise UserError(
            "the length of a run must be given in epochs, which the schedule needs to know; "
            "pass --trainer.max_epochs in place of max_steps and max_time"
        )
    if config.limit_train_batches == 0 or config.overfit_batches < 0:
        raise UserError("a run must have images to train on; leave --trainer.limit_train_batches out")
    if config.limit_val_batches == 0 or config.fast_dev_run:
        raise UserError(
            "a run must see its hold-out, by which the best epoch is chosen; "
            "leave --trainer.limit_val_batches and --trainer.fast_dev_run out"
        )


# Characters of a library's own message that are printed.
LONGEST = 400


def as_list(plugins: Any) -> list[Any]:
    """Convert None, one or several plugins to a list."""
    return [] if plugins is None else plugins if isinstance(plugins, list) else [plugins]


class TrainCLI(LightningCLI):
    """Lightning's command line with the options of a run of a task.

    Args:
        task: what is trained.
        words: the command line.
        stack: releases the lock on the folder when the run ends.
    """

    def __init__(self, task: Task, words: list[str], stack: ExitStack) -> None:
        self.task, self.stack = task, stack
        super().__init__(
            task.learner(),
            task.data(),
            save_config_callback=None,
            trainer_defaults={"max_epochs": 30, "log_every_n_steps": 10, "enable_model_summary": False},
            seed_everything_default=0,
            args=words,
            run=False,
            auto_configure_optimizers=False,
            parser_kwargs={
                "prog": task.command,
                "description": task.purpose,
                "exit_on_error": False,
                "parser_mode": MODE,
            },
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Declare the run's own options, and the values that data and model give to each other."""
        parser.add_argument("--output", type=str, default="runs/train", help="folder of the run")
        parser.add_argument("--resume", type=bool, default=False, help="continue the run in --output")
        parser.add_argument("--task", type=str, default=self.task.name, help="what the run is of")
        for link in self.task.links:
            on = "instantiate" if link.on_instance else "parse"
            parser.link_arguments(link.source, link.target, apply_on=on)

    def before_instantiate_classes(self) -> None:
        """Check the folder and the length of the run before any work."""
        if self.config.task != self.task.name:
            raise UserError(
                f"the configuration must be of {self.task.command}, got one of {self.config.task}; "
                "choose another --config"
            )
        check_trainer(self.config.trainer)
        self.folder = RunFolder(Path(self.config.output))
        first = cast("Any", rank_zero_only).rank == 0
        if first and not (self.config.resume and not self.folder.config.exists()):
            self.stack.enter_context(self.folder.held())
        self.checkpoint = self.folder.checkpoint_to_resume() if self.config.resume else None
        self.state = None if self.checkpoint is None else read_checkpoint(self.checkpoint, STATE)
        self.best_score = None if self.state is None else score_so_far(self.folder, self.state)
        if first and not self.config.resume:  # later processes find what the first has already written
            self.folder.check_unused()
        # A resumed run has its weights in the checkpoint; the file that it began with may be deleted.
        self.weights = self.config.model.get("weights")
        if self.checkpoint is not None and self.weights is not None:
            self.config.model.weights = None

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Add our loggers, callbacks and progress bar to the configuration."""
        path, terminal = self.folder.path, sys.stdout.isatty()
        config = {**self._get(self.config_init, "trainer", default={})}
        self.metrics = Metrics(path)
        # Figures after the checkpoint will be logged again.
        steps = 0 if self.state is None else self.state["global_step"]
        board = Board(path, name="", version="logs", purge_step=steps)
        config["logger"] = [self.metrics, board]
        config["plugins"] = [AtomicFiles(), *as_list(config.get("plugins"))]
        config["enable_progress_bar"] = terminal
        config["default_root_dir"] = str(path)
        return self._instantiate_trainer(config, callbacks(self.folder, terminal))

    def save_config(self) -> None:
        """Write the resolved configuration, from which a new run can start, too."""
        write_text(self.folder.config, self.resolved())

    def resolved(self) -> str:
        """The resolved configuration as YAML."""
        config = self.config.clone()
        config.resume = False
        if self.weights is not None:
            config.model.weights = self.weights
        return str(self.parser.dump(config, skip_none=False))

    def defaults(self) -> str:
        """The configuration of a command without options, as YAML; it lacks what must be given."""
        return str(self.parser.dump(self.parser.get_defaults(), skip_none=False, skip_validation=True))


def parse(task: Task, words: list[str], stack: ExitStack) -> TrainCLI:
    """Parse the command line, and build module, data and trainer.

    Args:
        task: what is trained.
        words: the command line.
        stack: releases the lock on the folder when the run ends.
    """
    with option_errors(task):
        return TrainCLI(task, words, stack)


@dataclass
class Progress:
    """The phase of a run, which decides whose mistake an error is.

    Attributes:
        restoring: the checkpoint that is being restored; None before and after.
        computing: whether the model is at work, so that errors are due neither to options nor a checkpoint.
    """

    restoring: Path | None = None
    computing: bool = False

    def is_bug(self, error: Exception) -> bool:
        """Whether an error comes neither from an option nor from a checkpoint."""
        return self.computing or (
            self.restoring is None and isinstance(error, (LookupError, AttributeError, NameError))
        )


@contextmanager
def option_errors(task: Task, progress: Progress | None = None) -> Iterator[None]:
    """Convert the error of a library about an option or a damaged checkpoint to one line.

    Lightning, jsonargparse, timm and PyTorch check values in their own ways, some not at all: any kind of
    error is possible. Nothing is computed in such a block that could hide a bug of a kernel; ``--debug``
    shows the traceback.

    Args:
        task: whose options are named.
        progress: of the run; None while it is being built.

    Raises:
        UserError: an option or a checkpoint is wrong.
    """
    try:
        with naming_options(task):
            yield
    except (UserError, OSError, ImportError):
        raise
    except Exception as error:
        if progress is not None and progress.is_bug(error):
            raise
        words = " ".join(str(error).split())
        words = words if len(words) <= LONGEST else f"{words[:LONGEST]} ..."
        if progress is not None and progress.restoring is not None:
            raise UserError(
                f"the run cannot continue from {progress.restoring}: {type(error).__name__}: {words}; "
                "restore it, or resume without other options"
            ) from error
        for short, long in task.short.items():
            words = re.sub(rf"(--)?{re.escape(long[2:])}\b", short, words)
        words += nearest_option(task, words)
        if not isinstance(error, (ArgumentError, MisconfigurationException, ValueError)):
            words = f"the options must fit together, got {type(error).__name__}: {words}"
        raise UserError(f"{words}; `{task.command} --help` lists the options") from error


def nearest_option(task: Task, words: str) -> str:
    """A hint that names the option that a mistyped one is near to; empty where there is none."""
    mistyped = re.search(r"unrecognized arguments: (--[\w.-]+)", words)
    near = difflib.get_close_matches(mistyped[1], option_names(task).values(), n=1) if mistyped else []
    return f"; did you mean {near[0]}?" if near else ""


def task_of(words: Sequence[str]) -> str:
    """Name of the task of the run that ``--resume`` continues, or of the configuration of ``--config``.

    That of a classifier where there is none.
    """
    for word, value in zip_longest(words, words[1:], fillvalue=""):
        option, equals, after = word.partition("=")
        value = after if equals else value
        path = Path(value)
        files = {"--resume": RunFolder(path).config, "--config": path, "-c": path}
        if value and option in files and files[option].is_file():
            return task_in(files[option])
    return "classify"


def task_in(file: Path) -> str:
    """Name of the task in the configuration of a run."""
    config = read_settings(file)
    return str(config.get("task", "classify")) if isinstance(config, dict) else "classify"
