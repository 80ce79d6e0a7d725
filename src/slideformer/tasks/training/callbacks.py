# SPDX-License-Identifier: Apache-2.0
"""Callbacks and loggers of a run: figures, checkpoints, seeds."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping
from math import isnan
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from timm.utils import random_seed

from slideformer.files import atomic_write, regular_file, write_text, writing_to
from slideformer.tasks.training.learner import Learner
from slideformer.tasks.training.run_folder import RunFolder
from slideformer.tasks.training.sampling import EPOCHS_APART, seed

# The first steps are not counted in the speed; after the second number of steps it is printed.
WARM_UP_STEPS, PRINT_STEP = 5, 25


class Throughput(Callback):
    """Logs images per second, all devices together, and prints them once early in the run."""

    def __init__(self) -> None:
        self.images, self.since, self.steps, self.first_epoch = 0, 0.0, 0, 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note where a resumed run continues."""
        self.first_epoch = trainer.current_epoch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start counting; evaluation between epochs does not count."""
        self.images, self.since = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a batch."""
        self.steps += 1
        if self.steps == WARM_UP_STEPS:
            self.images, self.since = 0, time.perf_counter()
            return
        self.images += len(batch.images) * trainer.world_size
        speed = self.images / max(time.perf_counter() - self.since, 1e-9)
        pl_module.log("images_per_second", speed, prog_bar=True)
        if self.steps == PRINT_STEP and trainer.is_global_zero:
            epochs = (trainer.max_epochs or 1) - self.first_epoch
            left = trainer.num_training_batches * epochs - self.steps
            minutes = left * len(batch.images) * trainer.world_size / speed / 60
            print(f"{speed:.0f} images/s; about {minutes:.1f} minutes of training left", flush=True)


class EpochSeed(Callback):
    """Starts every epoch from a seed of its own, so that its random numbers do not depend on earlier epochs.

    With the loader's own seeds, a resumed run equals an uninterrupted one number for number.
    """

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed Python, NumPy and PyTorch, differently on each device, and the order of a stream."""
        random_seed(seed() + EPOCHS_APART * trainer.current_epoch, trainer.global_rank)
        dataset = getattr(trainer.train_dataloader, "dataset", None)
        if hasattr(dataset, "set_epoch"):
            cast("Any", dataset).set_epoch(trainer.current_epoch)


class LastEpoch(Callback):
    """Evaluates on the hold-out after the last epoch, however seldom the epochs before are evaluated."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make the last epoch one of those that are evaluated."""
        if trainer.current_epoch + 1 == trainer.max_epochs and trainer.check_val_every_n_epoch is not None:
            trainer.check_val_every_n_epoch = 1


class EpochLines(Callback):
    """Prints a line an epoch, where there is no terminal for a progress bar."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the epoch's figures."""
        if trainer.is_global_zero:
            figures = {name: float(x) for name, x in trainer.callback_metrics.items()}
            names = cast("Learner", pl_module).figures
            words = [f"{name} {figures[name]:.4f}" for name in names if name in figures]
            speed = figures.get("images_per_second")
            words += [] if speed is None else [f"{speed:.0f} images/s"]
            print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {'  '.join(words)}", flush=True)


class Metrics(Logger):
    """Writes the figures of a run to ``metrics.csv``, always complete; a resumed run continues the file.

    Lightning's own logger deletes the file at the start, and overwrites it where a column is added.

    Args:
        folder: of the run, to which Lightning's own callbacks write, too.
    """

    name = version = ""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.path = folder, folder / "metrics.csv"
        self.columns: list[str] = []

    @property
    def save_dir(self) -> str:
        """The folder of the run."""
        return str(self.folder)

    def keep(self, steps: int) -> None:
        """Keep the rows before the update at which the run is resumed; 0 keeps none."""
        rows = [
            row for row in self.read() if (row.get("step") or "").isdecimal() and int(row["step"]) < steps
        ]
        self.columns = [name for name in rows[0] if name] if rows else []
        self.path.unlink(missing_ok=True) if not rows else self.write(rows)

    def read(self) -> list[dict[str, Any]]:
        """Read all complete rows; a killed run may have left half a line."""
        if not self.path.exists():
            return []
        text = regular_file(self.path).read_text(encoding="utf-8", errors="replace")
        complete = text[: text.rfind("\n") + 1]
        return list(csv.DictReader(io.StringIO(complete, newline=""), restval=""))

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Replace the file."""
        write_text(self.path, self.lines(rows, header=True))

    def lines(self, rows: list[dict[str, Any]], header: bool) -> str:
        """Format rows as lines of the file."""
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, self.columns, extrasaction="ignore")
        if header:
            table.writeheader()
        table.writerows(rows)
        return text.getvalue()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row."""
        row = {**metrics, "step": step}
        new = row.keys() - set(self.columns)
        if new or not self.path.exists():
            rows = self.read()
            self.columns = sorted({*self.columns, *new})
            self.write([*rows, row])
            return
        with writing_to(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            file.write(self.lines([row], header=False))

    def log_hyperparams(self, params: Any, *arguments: Any, **options: Any) -> None:
        """Do nothing: the configuration has them."""


class Board(TensorBoardLogger):
    """Writes the figures for TensorBoard; the folder may be removed during the run."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Add figures, and make the folder again if it was removed."""
        folder = Path(self.log_dir)
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            super().log_metrics(metrics, step)
            self.experiment.flush()  # its own thread would end where the folder was removed


class AtomicFiles(TorchCheckpointIO):
    """Writes checkpoints atomically; Lightning's own writing copies over the earlier file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint."""
        data = io.BytesIO()  # PyTorch's own error for a full disk names neither file nor cause
        torch.save(checkpoint, data)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as unfinished:
            unfinished.write_bytes(data.getbuffer())


class Checkpoints(Checkpoint):
    """Saves the weights of the best epoch, then the complete state after the last one.

    Each file has the best score so far. A run that is stopped between the two continues from the earlier
    state, and reads the best score from the file of the best epoch.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the weights of an epoch with the highest score so far."""
        if trainer.sanity_checking:
            return
        learner = cast("Learner", pl_module)
        learner.check_diverged()
        score = float(trainer.strategy.broadcast(float(trainer.callback_metrics[learner.score])))
        if not isnan(score) and (learner.best_score is None or score > learner.best_score):
            learner.best_score = score
            trainer.save_checkpoint(self.folder.best, weights_only=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the state."""
        cast("Learner", pl_module).check_diverged()
        trainer.save_checkpoint(self.folder.last)


def callbacks(folder: RunFolder, terminal: bool) -> list[Callback]:
    """Return the callbacks of a run.

    Args:
        folder: of the run.
        terminal: whether a person watches a terminal.
    """
    lines: list[Callback] = [] if terminal else [EpochLines()]
    return [
        Checkpoints(folder),
        EpochSeed(),
        LastEpoch(),
        LearningRateMonitor("step"),
        Throughput(),
        *lines,
    ]
