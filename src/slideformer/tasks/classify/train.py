# SPDX-License-Identifier: Apache-2.0
"""Training a classifier: Lightning's command line around our module and data, and the folder it leaves."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from slideformer.errors import UserError
from slideformer.models import save_pretrained
from slideformer.tasks.classify.callbacks import Metrics, callbacks
from slideformer.tasks.classify.data import ClassificationData
from slideformer.tasks.classify.module import Classifier
from slideformer.tasks.classify.run_folder import RunFolder, read_checkpoint, refuse_other_model

# What a user types, and what Lightning's command line calls it.
SHORT = {"--model": "--model.name", "--data": "--data.source"}
RECIPES = resources.files("slideformer.tasks.classify") / "recipes"


# Advertisements, and deprecations that are Lightning's own to mend.
NOISE = (
    ".*LeafSpec.*",
    "Checkpoint directory .* exists and is not empty",
    ".*Experiment logs directory.*",
    "LightningCLI's args parameter",
    # The moving average of the weights is only ever evaluated.
    "Found .* in eval mode at the start of training",
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what Lightning says of itself out of a person's sight."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in NOISE:
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(
        entry.name.removesuffix(".yaml") for entry in RECIPES.iterdir() if entry.name.endswith(".yaml")
    )


def recipe_path(name: str) -> str:
    """The file of a configuration: a path as it is, or the name of a shipped recipe.

    Raises:
        UserError: it is neither.
    """
    if Path(name).is_file():
        return name
    if name in recipes():
        return str(RECIPES / f"{name}.yaml")
    raise UserError(
        f"--config must be a YAML file or one of {', '.join(recipes())}, got {name}; check the path"
    )


def expand(words: Sequence[str]) -> list[str]:
    """The command line in Lightning's words: short options, recipes by name, ``--resume`` with a folder."""
    result: list[str] = []
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in SHORT:
            result.append(SHORT[option] + equals + value)
        elif option == "--config":
            result.append(f"--config={recipe_path(value if equals else next(rest, ''))}")
        else:
            result.append(word)
    return expand_resume(result)


def expand_resume(words: list[str]) -> list[str]:
    """``--resume`` as ``--resume true``; with a folder, that run's own configuration and output."""
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
    return [f"--config={folder.config}", *before, f"--output={folder.path}", "--resume=true", *after[1:]]


class TrainCLI(LightningCLI):
    """Lightning's command line with the options of a run."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Declare the run's own options, and what the data tell the model."""
        parser.add_argument("--output", type=str, default="runs/train", help="folder of the run")
        parser.add_argument("--resume", type=bool, default=False, help="continue the run in --output")
        parser.link_arguments("model.name", "data.model")
        parser.link_arguments("data.num_classes", "model.num_classes", apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        """Look at the folder before any work."""
        self.folder = RunFolder(Path(self.config.output))
        if cast("Any", rank_zero_only).rank == 0:  # later processes find what the first has already written
            if not self.config.resume:
                self.folder.refuse_if_used()
            self.folder.prepare()

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Add our loggers, callbacks and progress bar to what the configuration says."""
        path, terminal = self.folder.path, sys.stdout.isatty()
        config = {**self._get(self.config_init, "trainer", default={})}
        self.metrics = Metrics(path, name="", version="")
        config["logger"] = [self.metrics, TensorBoardLogger(path, name="", version="logs")]
        config["enable_progress_bar"] = terminal
        config["default_root_dir"] = str(path)
        return self._instantiate_trainer(config, callbacks(path, terminal))

    def save_config(self) -> None:
        """Write the resolved configuration, under another name first."""
        unfinished = self.folder.config.with_name(".config.yaml.unfinished")
        unfinished.write_text(self.parser.dump(self.config, skip_none=False), encoding="utf-8")
        os.replace(unfinished, self.folder.config)


@quiet()
def fit(words: Sequence[str]) -> RunFolder:
    """Train as the command line says, and leave the best weights in timm's format.

    Args:
        words: the command line after ``train``.

    Raises:
        UserError: a mistake in the command line, the data, the folder or a checkpoint; or a loss that is
            not finite.
    """
    cli = parse(expand(words))
    folder: RunFolder = cli.folder
    checkpoint = None
    if cli.config.resume:
        checkpoint = folder.checkpoint_to_resume()
        if checkpoint is not None:
            state = read_checkpoint(checkpoint)
            refuse_other_model(checkpoint, state, dict(cli.model.hparams))
            if cli.trainer.is_global_zero:
                cli.metrics.keep(state["global_step"])

    def begin(trainer: L.Trainer, module: L.LightningModule) -> None:
        # Now that nothing of the command line can be refused any more.
        if trainer.is_global_zero:
            cli.save_config()
            print(introduction(cli.model, cli.datamodule, checkpoint), flush=True)

    cast("Any", cli.trainer).callbacks.append(LambdaCallback(on_train_start=begin))
    try:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as stop:  # how Lightning ends on Ctrl-C, which it has switched off by then
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt(f"go on with: slideformer train --resume {folder.path}") from stop
    if cli.trainer.is_global_zero:
        best = cast("ModelCheckpoint", cli.trainer.checkpoint_callback)
        finish(cli.model, cli.datamodule, folder, float(cast("Any", best.best_model_score)))
    return folder


def parse(words: list[str]) -> TrainCLI:
    """Lightning's command line with module, data and trainer built.

    Raises:
        UserError: the words are wrong, or what they ask for cannot be built.
    """
    try:
        return TrainCLI(
            Classifier,
            ClassificationData,
            save_config_callback=None,
            trainer_defaults={"max_epochs": 30, "log_every_n_steps": 10, "enable_model_summary": False},
            seed_everything_default=0,
            args=words,
            run=False,
            auto_configure_optimizers=False,
            parser_kwargs={
                "prog": "slideformer train",
                "description": "Train an image classifier.",
                "exit_on_error": False,
            },
        )
    except (ArgumentError, MisconfigurationException) as error:
        lines = " ".join(str(error).split())
        raise UserError(f"{lines}; `slideformer train --help` lists the options") from error


def introduction(module: Classifier, data: ClassificationData, checkpoint: Path | None) -> str:
    """What is about to be trained on what."""
    size = "x".join(str(side) for side in data.config["input_size"])
    count = sum(parameter.numel() for parameter in module.model.parameters())
    start = "" if checkpoint is None else f", resumed from {checkpoint}"
    name = module.hparams["name"]
    return f"{name}, {count / 1e6:.2f} M parameters, {data.num_classes} classes, input {size}{start}"


def finish(module: Classifier, data: ClassificationData, folder: RunFolder, score: float) -> None:
    """Write the best epoch's weights, or their moving average, where ``timm.create_model`` finds them."""
    state = read_checkpoint(folder.best)
    module.load_state_dict(state["state_dict"])
    config = data.config
    save_pretrained(
        module.evaluated,
        folder.path,
        label_names=data.class_names,
        input_size=config["input_size"],
        mean=config["mean"],
        std=config["std"],
        interpolation=config["interpolation"],
        crop_pct=config["crop_pct"],
    )
    average = "" if module.ema is None else ", moving average of the weights"
    print(f"best top-1 on the hold-out: {100 * score:.2f} % (epoch {state['epoch'] + 1}{average})")
    if module.unreadable:
        print(f"images left out because they were unreadable: {len(module.unreadable)}")
    print(f"the run is in {folder.path}; next:\n  slideformer evaluate {folder.path} --data {data.source}")
