# SPDX-License-Identifier: Apache-2.0
"""Training, from the words of the command line to the folder of the run."""

from __future__ import annotations

import logging
import shlex
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import LambdaCallback

from slideformer.console import print_line
from slideformer.errors import UserError
from slideformer.runs import Run, save_run
from slideformer.tasks.model_card import read_record, write_card, write_record
from slideformer.tasks.table import Task
from slideformer.tasks.training.command import command_of
from slideformer.tasks.training.command_line import Progress, TrainCLI, expand, option_errors, parse
from slideformer.tasks.training.data import ImageData
from slideformer.tasks.training.drawings import Drawings
from slideformer.tasks.training.learner import Learner
from slideformer.tasks.training.options import naming_options, with_options
from slideformer.tasks.training.outlook import outlook
from slideformer.tasks.training.record import record_of
from slideformer.tasks.training.run_folder import (
    RunFolder,
    check_optimisers,
    check_same_run,
    read_checkpoint,
)
from slideformer.tasks.training.settings import load

# Advertisements, and deprecations within Lightning.
NOISE = (
    ".*LeafSpec.*",
    "Checkpoint directory .* exists and is not empty",
    ".*Experiment logs directory.*",
    "LightningCLI's args parameter",
    # The moving average of the weights is only ever evaluated.
    "Found .* in eval mode at the start of training",
    "Be aware that when using `ckpt_path`",  # a run folder that was moved
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide messages of Lightning that do not concern the user."""
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


@quiet()
def fit(task: Task, words: Sequence[str]) -> RunFolder:
    """Train as the command line says, and leave the best weights in the run's folder.

    Args:
        task: what is trained.
        words: the command line after ``train`` and the task's name.

    Raises:
        UserError: a mistake in the command line, the data, the folder or a checkpoint; or a loss that is
            not finite.
    """
    with ExitStack() as stack:
        with naming_options(task):
            words = expand(task, words)
        return fit_locked(task, parse(task, words, stack))


def fit_locked(task: Task, cli: TrainCLI) -> RunFolder:
    """Train, while the folder is locked against other processes."""
    folder, checkpoint = cli.folder, cli.checkpoint
    if checkpoint is not None and cli.state is not None:
        with naming_options(task):
            check_same_run(checkpoint, cli.state, dict(cli.model.hparams))
        cli.model.best_score = cli.best_score

    cli.datamodule.say = lambda line: print_line(with_options(task, line))
    progress = Progress()

    def restore(*_: Any, **__: Any) -> None:
        progress.restoring = checkpoint

    def compute(*_: Any) -> None:
        progress.computing = True

    def pause(*_: Any) -> None:
        progress.computing = False

    def begin(trainer: L.Trainer, module: L.LightningModule) -> None:
        # From now on, no option can be rejected any more.
        if cli.state is not None and trainer.global_step != cli.state["global_step"]:
            raise UserError(
                f"{checkpoint} must say where its training stopped, got step {cli.state['global_step']} and "
                f"{trainer.global_step}; restore it"
            )
        if checkpoint is not None:
            check_optimisers(checkpoint, trainer.optimizers)
        compute()
        settings = cast("Any", trainer)
        updates = int(trainer.num_training_batches) // trainer.accumulate_grad_batches
        settings.log_every_n_steps = min(settings.log_every_n_steps, max(1, updates))
        if trainer.is_global_zero:
            if checkpoint is None:
                folder.best.unlink(missing_ok=True)  # of a first epoch that was not complete
            cli.metrics.keep(0 if cli.state is None else cli.state["global_step"])
            cli.save_config()
            for line in introduction(cli.model, cli.datamodule, checkpoint, cli.config.resume).split("\n"):
                print_line(line)
            for line in outlook(trainer, cli.model, cli.datamodule):
                print_line(with_options(task, line))

    phases = LambdaCallback(
        setup=restore,
        on_sanity_check_start=compute,
        on_sanity_check_end=pause,
        on_train_start=begin,
    )
    drawings = Drawings(task, folder, cli.datamodule)
    cast("Any", cli.trainer).callbacks += [phases, drawings]
    try:
        with option_errors(task, progress):
            cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as stop:  # how Lightning ends on Ctrl-C, which it has switched off by then
        signal.signal(signal.SIGINT, signal.default_int_handler)
        hint = f"go on with: {task.command} --resume {shlex.quote(str(folder.path))}"
        raise KeyboardInterrupt(*([hint] if folder.config.exists() else [])) from stop
    if cli.trainer.is_global_zero:
        run, epoch, score = finish(cli.model, cli.datamodule, folder)
        drawings.draw_results(run, cli.trainer.strategy.root_device)
        describe(task, cli, run, epoch, score)
        print_next(cli.datamodule, folder)
    return folder


def introduction(module: Learner, data: ImageData, checkpoint: Path | None, resume: bool) -> str:
    """Model, data and start of the training, in a line, and lines on its first weights."""
    start = "" if checkpoint is None else f", resumed from {checkpoint}"
    if resume and checkpoint is None:
        start = ", from the first epoch: the run to resume had not finished one"
    return "\n".join([module.describe(data) + start, *module.notes])


def finish(module: Learner, data: ImageData, folder: RunFolder) -> tuple[Run, int, float | None]:
    """Save the weights of the best epoch, or their moving average, and print the score.

    Where there is no best epoch, since none saw the hold-out or its file was removed, those of the last one.

    Returns:
        The run, the epoch of its weights, from 1, and the score of that epoch; None for the last one.
    """
    score = module.best_score if folder.best.exists() else None
    state = read_checkpoint(folder.last if score is None else folder.best)
    module.load_state_dict(state["state_dict"])
    run = module.eval().as_run(data)
    save_run(run, folder.path)
    average = "" if module.ema is None else ", moving average of the weights"
    epoch = f"epoch {state['epoch'] + 1}{average}"
    if score is None:
        print(f"no epoch was evaluated on the hold-out: these are the weights of the last ({epoch})")
    else:
        print(f"best {module.score_words}: {100 * score:.2f} % ({epoch})")
    for line in module.left_out():
        print_line(line)
    return run, state["epoch"] + 1, score


def describe(task: Task, cli: TrainCLI, run: Run, epoch: int, score: float | None) -> None:
    """Write the record of a training and the card of its run; where that fails, print why.

    Args:
        task: what was trained.
        cli: of the training, at its end.
        run: as it was saved.
        epoch: whose weights it has, from 1.
        score: of that epoch; None where it is the last one.
    """
    folder = cli.folder
    try:
        config = load(cli.resolved())
        command = command_of(task, config, load(cli.defaults()))
        record = record_of(cli, config, run, epoch, score, command)
        # A finished training that is resumed leaves the card, where an evaluation may have put its figures.
        if not folder.card.is_file() or read_record(folder.path) != record:
            # The record comes last: where it is that of this training, the card is not older.
            try:
                write_card(folder.path, record=record)
            except UserError:  # as where a person has edited it
                write_record(record, folder.path)
                raise
            write_record(record, folder.path)
    except UserError as error:  # the run itself is complete
        print_line(f"{folder.card.name} is not written, all else is: {error}")


def print_next(data: ImageData, folder: RunFolder) -> None:
    """Print what there is to see of a finished run, and the next command."""
    files = (folder.curves, folder.predictions, folder.first_batch, folder.card)
    seen = [file.name for file in files if file.is_file()]
    run = shlex.quote(str(folder.path))
    if seen:
        print_line(f"see {', '.join(seen)} in {folder.path}")
    print_line(f"the run is in {folder.path}; next:")
    print_line(
        f"  slideformer evaluate {run} {shlex.join(data.evaluate_words)}"
        if data.evaluable
        else f"  slideformer export {run} --to onnx"
    )
