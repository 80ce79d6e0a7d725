# SPDX-License-Identifier: Apache-2.0
"""What a run tells while it goes on, and when it keeps its state."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from timm.utils import random_seed

from slideformer.files import whole, write_text
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


class Metrics(CSVLogger):
    """The figures of a run in ``metrics.csv``; a resumed run goes on in the same file.

    Lightning's own logger begins the file anew.
    """

    def keep(self, steps: int) -> None:
        """Keep what was logged before the update at which the run is resumed."""
        path = Path(self.log_dir) / "metrics.csv"
        if not path.exists():
            return
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            columns = list(table.fieldnames or ())
            # A killed run may have left half a line.
            rows = [row for row in table if (row.get("step") or "").isdecimal() and int(row["step"]) < steps]
        self.experiment.metrics_keys = columns
        text = io.StringIO(newline="")
        kept = csv.DictWriter(text, columns, extrasaction="ignore")
        kept.writeheader()
        kept.writerows(rows)
        write_text(path, text.getvalue())


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that are there whole or not at all.

    Lightning's own writing copies from another file system, over what stood there before.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write all that the trainer hands over.

        Raises:
            UserError: the system refuses, as a full disk does; the checkpoint before is kept.
        """
        data = io.BytesIO()  # PyTorch's own words for a full disk would name neither file nor cause
        torch.save(checkpoint, data)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as unfinished:
            unfinished.write_bytes(data.getbuffer())


class Checkpoint(ModelCheckpoint):
    """A checkpoint that keeps its scores when its run has moved to another folder."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the scores, with the paths as they are now."""
        before, now = str(state_dict["dirpath"]), str(self.dirpath)

        def moved(path: str) -> str:
            return now + path.removeprefix(before) if path.startswith(before) else path

        paths = {key: moved(x) for key, x in state_dict.items() if key.endswith("_path")}
        best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "dirpath": self.dirpath, "best_k_models": best})


def checkpoints(folder: Path, score: str) -> list[Callback]:
    """Keep the epoch of the highest score and the last."""
    best = Checkpoint(
        folder,
        filename="best",
        monitor=score,
        mode="max",
        enable_version_counter=False,
        save_weights_only=True,
    )
    last = Checkpoint(
        folder, filename="last", every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
    return [best, last]


def callbacks(folder: Path, score: str, terminal: bool) -> list[Callback]:
    """All of a run's callbacks.

    Args:
        folder: of the run.
        score: name of the figure that tells the best epoch.
        terminal: whether a person watches a terminal.
    """
    lines: list[Callback] = [] if terminal else [EpochLines()]
    return [
        *checkpoints(folder / "checkpoints", score),
        EpochSeed(),
        LearningRateMonitor("step"),
        Throughput(),
        *lines,
    ]
