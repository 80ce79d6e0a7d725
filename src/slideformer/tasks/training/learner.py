# SPDX-License-Identifier: Apache-2.0
"""A model in training, whatever it learns: its average, its rates, and what a resumed run may not change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, cast

import lightning as L
import torch
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from slideformer.console import print_line
from slideformer.errors import UserError, check_range
from slideformer.tasks.training.devices import exchanged
from slideformer.tasks.training.optimise import Optimise, build_optimiser, build_schedule, check_rates


class Learner(L.LightningModule):
    """What the tasks have in common; each derives from it, and says what a step computes.

    Args:
        model: what is trained.
        kept: what makes the model what it is, as plain values: a resumed run may not change it.
        optimise: optimiser and schedule.
        ema_decay: decay of the moving average of the weights, which is then what is evaluated and saved;
            None for no average.

    Attributes:
        score: name of the logged figure that tells the best epoch.
        score_words: what to call it.
        best_score: highest score of an epoch so far; None before one was seen.
        figures: names of the logged figures that an epoch's line tells.
    """

    score: ClassVar[str]
    score_words: ClassVar[str]
    figures: ClassVar[tuple[str, ...]]

    def __init__(
        self, model: nn.Module, kept: Mapping[str, Any], optimise: Optimise, ema_decay: float | None
    ) -> None:
        super().__init__()
        check_range("--model.ema_decay", ema_decay, 0, 0.9999999)
        # Plain values only, so that a checkpoint loads without running code; rates and length may change.
        self.save_hyperparameters({**kept, "ema_decay": ema_decay, **optimise.fixed()}, logger=False)
        self.model = model
        self.ema = None if ema_decay is None else ModelEmaV3(model, decay=ema_decay).requires_grad_(False)
        self.optimise = optimise
        self.updates = 0
        self.best_score: float | None = None
        self.unreadable: set[str] = set()

    @property
    def evaluated(self) -> nn.Module:
        """The weights that count: the moving average where there is one."""
        return cast("nn.Module", self.model if self.ema is None else self.ema.module)

    def describe(self, data: Any) -> str:
        """What is about to be trained on what, in a line."""
        raise NotImplementedError

    def save(self, folder: Path, data: Any) -> None:
        """Write the evaluated weights, and what they need to be used, into a run's folder."""
        raise NotImplementedError

    def tell_unreadable(self, paths: Iterable[str]) -> None:
        """Say, once each, which images were left out."""
        for path in paths:
            if path not in self.unreadable:
                self.unreadable.add(path)
                print_line(f"left out, unreadable: {path}")

    def on_train_end(self) -> None:
        """Bring together what each device has left out."""
        self.unreadable = set().union(*exchanged(self.unreadable))

    def left_out(self) -> list[str]:
        """Lines on what could not be used, for the end of a run."""
        count = len(self.unreadable)
        return [f"images left out because they were unreadable: {count}"] if count else []

    def finite(self, loss: Tensor) -> Tensor:
        """The loss of a step itself."""
        if not torch.isfinite(loss):
            raise self.diverged(f"the loss must be finite, got {loss.item()}")
        return loss

    def refuse_diverged(self) -> None:
        """Keep no weights that answer nothing."""
        loss = float(self.trainer.callback_metrics.get("val/loss", 0.0))
        if not isfinite(loss):
            raise self.diverged(f"the loss on the hold-out must be finite, got {loss}")
        for name, weight in self.model.named_parameters():
            if not bool(torch.isfinite(weight).all()):
                raise self.diverged(f"all weights must be finite, got others in {name}")

    def diverged(self, fact: str) -> UserError:
        """The error of a training whose numbers have left their range."""
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        return UserError(
            f"{fact} at step {self.global_step}, epoch {self.current_epoch + 1}, learning rate {rate:.2e}; "
            "try a lower --model.optimise.lr, a longer --model.optimise.warmup_epochs, "
            "--trainer.gradient_clip_val 1.0 or --trainer.precision 32"
        )

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Follow the weights with the moving average, once an update."""
        if self.ema is not None and self.global_step != self.updates:
            self.ema.update(self.model, step=self.global_step)
        self.updates = self.global_step

    def on_train_start(self) -> None:
        """Go on counting updates where a resumed run stopped."""
        self.updates = self.global_step

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the best score and what an update is; the schedule is a function of the update alone."""
        checkpoint["best_score"] = self.best_score
        checkpoint["images_per_update"] = self.images_per_update()
        checkpoint["lr_schedulers"] = []

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on where updates would count differently."""
        if len(checkpoint["optimizer_states"]) != 1:
            raise UserError(
                "a resumed run must have the state of one optimiser in its last checkpoint, got "
                f"{len(checkpoint['optimizer_states'])}; restore the checkpoint"
            )
        before, now = checkpoint["images_per_update"], self.images_per_update()
        if before != now:
            raise UserError(
                f"a resumed run must keep its {before} images an update, got {now}; resume with the same "
                "--data.batch_size, --trainer.accumulate_grad_batches and devices"
            )
        done, wanted = checkpoint["epoch"] + 1, self.trainer.max_epochs or 0
        if done > wanted:
            raise UserError(
                f"a resumed run must be at least as long as it is, {done} epochs, got "
                f"--trainer.max_epochs {wanted}; choose more"
            )

    def images_per_update(self) -> int:
        """Images of one update, over all devices and accumulated batches."""
        data = cast("Any", self.trainer).datamodule
        return int(data.batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches)

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule, stepped at every update."""
        epochs, updates = self.trainer.max_epochs, self.trainer.estimated_stepping_batches
        if epochs is None or epochs < 1 or updates == float("inf"):
            raise UserError(f"a schedule needs an end, got {epochs} epochs; pass --trainer.max_epochs N")
        self.optimise.refuse_shorter(epochs, int(updates))
        batch = self.images_per_update()
        optimiser = build_optimiser(self.model, self.optimise, batch)
        schedule = build_schedule(optimiser, self.optimise, batch, epochs, int(updates))
        check_rates(optimiser)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Scheduler, metric: Any) -> None:  # type: ignore[override]
        """Set the rate of the next update."""
        scheduler.step_update(self.global_step)
        check_rates(scheduler.optimizer)
