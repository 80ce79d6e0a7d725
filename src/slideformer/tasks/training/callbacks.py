# SPDX-License-Identifier: Apache-2.0
"""What a run tells while it goes on, and when it keeps its state."""

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

# Steps before the speed is told, so that starting up is not counted.
WARM_STEPS = 5
TELL_STEP = 25


class Throughput(Callback):
    """Logs images per second, all devices together, and prints them early in the run."""

    def __init__(self) -> None:
        self.images, self.since, self.steps, self.first_epoch = 0, 0.0, 0, 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note where a resumed run goes on."""
        self.first_epoch = trainer.current_epoch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start counting; evaluation between epochs does not count."""
        self.images, self.since = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a batch."""
        self.steps += 1
        if self.steps == WARM_STEPS:
            self.images, self.since = 0, time.perf_counter()
            return
        self.images += len(batch.images) * trainer.world_size
        speed = self.images / max(time.perf_counter() - self.since, 1e-9)
        pl_module.log("images_per_second", speed, prog_bar=True)
        if self.steps == TELL_STEP and trainer.is_global_zero:
            epochs = (trainer.max_epochs or 1) - self.first_epoch
            left = trainer.num_training_batches * epochs - self.steps
            minutes = left * len(batch.images) * trainer.world_size / speed / 60
            print(f"{speed:.0f} images/s; about {minutes:.1f} minutes of training to go", flush=True)


class EpochSeed(Callback):
    """Starts every epoch from a seed of its own: what is random in it does not depend on earlier ones.

    With the loader's own seeds, a resumed run equals an uninterrupted one number for number.
    """

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed Python, NumPy and PyTorch, differently on each device, and a stream's order."""
        random_seed(seed() + EPOCHS_APART * trainer.current_epoch, trainer.global_rank)
        dataset = getattr(trainer.train_dataloader, "dataset", None)
        if hasattr(dataset, "set_epoch"):
            cast("Any", dataset).set_epoch(trainer.current_epoch)


class EpochLines(Callback):
    """One line an epoch, where there is no terminal for a progress bar."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the epoch's figures."""
        if trainer.is_global_zero:
            figures = {name: float(x) for name, x in trainer.callback_metrics.items()}
            told = cast("Any", pl_module).figures
            words = [f"{name} {figures[name]:.4f}" for name in told if name in figures]
            speed = figures.get("images_per_second")
            words += [] if speed is None else [f"{speed:.0f} images/s"]
            print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {'  '.join(words)}", flush=True)


class Metrics(Logger):
    """The figures of a run in ``metrics.csv``, complete at every moment; a resumed run goes on in the file.

    Lightning's own logger deletes the file at the start, and writes it in place where a column is added.

    Args:
        folder: of the run, in which Lightning's own callbacks write as well.
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
        """Keep what was logged before the update at which the run is resumed; 0 keeps nothing."""
        rows = [
            row for row in self.read() if (row.get("step") or "").isdecimal() and int(row["step"]) < steps
        ]
        self.columns = [name for name in rows[0] if name] if rows else []
        self.path.unlink(missing_ok=True) if not rows else self.write(rows)

    def read(self) -> list[dict[str, Any]]:
        """All complete rows; a killed run may have left half a line."""
        if not self.path.exists():
            return []
        text = regular_file(self.path).read_text(encoding="utf-8", errors="replace")
        complete = text[: text.rfind("\n") + 1]
        return list(csv.DictReader(io.StringIO(complete, newline=""), restval=""))

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Write the file, or replace it."""
        write_text(self.path, self.lines(rows, header=True))

    def lines(self, rows: list[dict[str, Any]], header: bool) -> str:
        """Rows as lines of the file."""
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
        """Nothing: the configuration has them."""


class Board(TensorBoardLogger):
    """The figures for TensorBoard; its folder may be removed while the run goes on."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Add figures, in a folder that is there."""
        folder = Path(self.log_dir)
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            super().log_metrics(metrics, step)
            self.experiment.flush()  # its thread would find the folder removed, and end


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that are there whole or not at all.

    Lightning's own writing copies from another file system, over the earlier file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write all that the trainer hands over."""
        data = io.BytesIO()  # PyTorch's own words for a full disk would name neither file nor cause
        torch.save(checkpoint, data)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as unfinished:
            unfinished.write_bytes(data.getbuffer())


class Checkpoints(Checkpoint):
    """Keeps the weights of the best epoch, then the whole state after the last one.

    Each file holds the best score so far. A run that is stopped between the two goes on from the state
    before, and finds the best one's score in its file.

    Args:
        folder: of the run.
        score: name of the figure that tells the best epoch.
    """

    def __init__(self, folder: RunFolder, score: str) -> None:
        self.folder, self.score = folder, score

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the weights where none before had as high a score."""
        if trainer.sanity_checking:
            return
        learner = cast("Learner", pl_module)
        learner.refuse_diverged()
        score = float(trainer.strategy.broadcast(float(trainer.callback_metrics[self.score])))
        if not isnan(score) and (learner.best_score is None or score > learner.best_score):
            learner.best_score = score
            trainer.save_checkpoint(self.folder.best, weights_only=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the state."""
        cast("Learner", pl_module).refuse_diverged()
        trainer.save_checkpoint(self.folder.last)


def callbacks(folder: RunFolder, score: str, terminal: bool) -> list[Callback]:
    """All of a run's callbacks.

    Args:
        folder: of the run.
        score: name of the figure that tells the best epoch.
        terminal: whether a person watches a terminal.
    """
    lines: list[Callback] = [] if terminal else [EpochLines()]
    return [
        Checkpoints(folder, score),
        EpochSeed(),
        LearningRateMonitor("step"),
        Throughput(),
        *lines,
    ]
