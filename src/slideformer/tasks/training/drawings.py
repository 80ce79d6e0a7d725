# SPDX-License-Identifier: Apache-2.0
"""The images that a training leaves in its folder: first batch, curves, predictions."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image

from slideformer.console import print_line, progress
from slideformer.errors import UserError
from slideformer.files import atomic_write
from slideformer.runs import Run
from slideformer.tasks.table import Task
from slideformer.tasks.training.batches import Batch
from slideformer.tasks.training.data import ImageData
from slideformer.tasks.training.learner import Learner
from slideformer.tasks.training.run_folder import RunFolder
from slideformer.viz.figure import rendered
from slideformer.viz.training import training_figure

# Curves are drawn again after so many seconds at the earliest: epochs may be shorter than drawing them takes.
EVERY = 20.0


class Drawings(Callback):
    """Draws what a training sees, how it goes and what it leads to; a drawing that fails does not stop it.

    It takes no random numbers, so that a training is the same with it.

    Args:
        task: what is trained.
        folder: of the run.
        data: that it is trained on.
    """

    def __init__(self, task: Task, folder: RunFolder, data: ImageData) -> None:
        self.task, self.folder, self.data = task, folder, data
        self.failed: set[Path] = set()
        self.due = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait for the first batch, of a training that begins, and for the time of the first curves."""
        self.due = time.monotonic() + EVERY
        if trainer.is_global_zero and trainer.global_step == 0:
            cast("Learner", pl_module).first_batch = self.draw_batch

    def draw_batch(self, batch: Batch) -> None:
        """Draw the first batch as the model sees it."""
        self.attempt(self.folder.first_batch, lambda: self.task.sheets().draw_batch(batch, self.data))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the curves after an epoch that was evaluated."""
        if trainer.is_global_zero and not trainer.sanity_checking and time.monotonic() >= self.due:
            self.draw_curves()
            self.due = time.monotonic() + EVERY

    def draw_curves(self) -> None:
        """Draw the figures that were logged so far, if any were."""
        if self.folder.metrics.exists():
            self.attempt(self.folder.curves, lambda: rendered(training_figure(self.folder.metrics)))

    def draw_results(self, run: Run, device: torch.device) -> None:
        """Draw the complete curves, and the predictions of the weights that were saved, made on a device."""

        def predictions() -> Image.Image:
            run.model.to(device)
            return self.task.sheets().draw_predictions(run, self.data)

        progress("drawing curves and predictions")
        self.draw_curves()
        self.attempt(self.folder.predictions, predictions)
        progress("")

    def attempt(self, file: Path, draw: Callable[[], Image.Image]) -> None:
        """Draw a file; where that fails, print why, once, and go on."""
        try:
            image = draw()
            with atomic_write(file) as unfinished:
                image.save(unfinished, format="PNG")
        except Exception as error:  # hours of training are worth more than an image of any kind
            if file in self.failed:
                return
            self.failed.add(file)
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            print_line(f"{file.name} is not drawn, all else goes on: {' '.join(reason.split())}")
