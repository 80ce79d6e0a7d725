# SPDX-License-Identifier: Apache-2.0
"""The base of the models in training: moving average, rates, and what a resumed run must keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, cast

import lightning as L
import torch
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from slideformer.console import print_line
from slideformer.errors import UserError, check_range
from slideformer.runs import Run
from slideformer.tasks.training.batches import Batch
from slideformer.tasks.training.devices import all_gather_object, device_mean
from slideformer.tasks.training.optimise import Optimise, build_optimiser, build_schedule, check_rates


class Learner(L.LightningModule):
    """A model in training; each task derives from it, and defines what a step computes.

    Args:
        model: what is trained.
        kept: what defines the model, as plain values: a resumed run must not change it.
        optimise: optimiser and schedule.
        ema_decay: decay of the moving average of the weights, which is then what is evaluated and saved;
            None for no average.

    Attributes:
        score: name of the logged figure by which the best epoch is chosen.
        score_words: what to call it.
        best_score: highest score of an epoch so far; None before the first one.
        figures: names of the logged figures that are printed after an epoch.
        notes: lines on the weights that it starts from, printed before the training.
        first_batch: called once, with the first batch as the model sees it.
    """

    score: str
    score_words: str
    figures: tuple[str, ...]

    def __init__(
        self, model: nn.Module, kept: Mapping[str, Any], optimise: Optimise, ema_decay: float | None
    ) -> None:
        super().__init__()
        check_range("`ema_decay`", ema_decay, 0, 0.9999999)
        # Plain values only, so that a checkpoint loads without running code; rates and length may change.
        self.save_hyperparameters({**kept, "ema_decay": ema_decay, **optimise.fixed()}, logger=False)
        self.model = model
        self.ema = None if ema_decay is None else ModelEmaV3(model, decay=ema_decay).requires_grad_(False)
        self.optimise = optimise
        self.updates = 0
        self.best_score: float | None = None
        self.unreadable: set[str] = set()
        self.notes: list[str] = []
        self.first_batch: Callable[[Batch], None] | None = None

    @property
    def evaluated(self) -> nn.Module:
        """The weights that count: the moving average where there is one."""
        return cast("nn.Module", self.model if self.ema is None else self.ema.module)

    @property
    def over_images(self) -> nn.Module:
        """The part that takes images alone, ``(B, 3, height, width)``, and whose memory grows with them."""
        return self.model

    @property
    def size(self) -> str:
        """Number of parameters, in words."""
        return f"{sum(parameter.numel() for parameter in self.model.parameters()) / 1e6:.2f} M parameters"

    def describe(self, data: Any) -> str:
        """Model and data in a line."""
        raise NotImplementedError

    def as_run(self, data: Any) -> Run:
        """The evaluated weights, and everything known about them."""
        raise NotImplementedError

    def show(self, batch: Batch) -> None:
        """Hand over a batch as the model sees it: every step of a training calls this."""
        if self.first_batch is not None:
            self.first_batch(batch)
            self.first_batch = None

    def usable(self, batch: Batch) -> Batch:
        """Return the batch itself; print, once each, which images were left out.

        Raises:
            UserError: the batch must not be used.
        """
        for path in batch.check().unreadable:
            if path not in self.unreadable:
                self.unreadable.add(path)
                print_line(f"left out, unreadable: {path}")
        return batch

    def on_train_end(self) -> None:
        """Collect from all devices which images were left out."""
        self.unreadable = set().union(*all_gather_object(self.unreadable))

    def left_out(self) -> list[str]:
        """Lines on what was left out, for the end of a run."""
        count = len(self.unreadable)
        return [f"images left out because they were unreadable: {count}"] if count else []

    def log_losses(self, losses: Mapping[str, Tensor], size: int) -> None:
        """Log the losses of a step under ``train/``, their means over all devices.

        Args:
            losses: by name; ``loss`` is the one that is minimised.
            size: images of the step on this device.

        Raises:
            UserError: ``loss`` is not finite on one of the devices: all raise it, and none waits for another.
        """
        means = device_mean(torch.stack([x.detach().float() for x in losses.values()]))
        for name, mean in zip(losses, means, strict=True):
            if name == "loss" and not torch.isfinite(mean):
                raise self.diverged(f"the loss must be finite, got {mean.item()}")
            self.log(f"train/{name}", mean, prog_bar=name == "loss", batch_size=size)

    def check_diverged(self) -> None:
        """Check that the weights are worth keeping."""
        loss = float(self.trainer.callback_metrics.get("val/loss", 0.0))
        if not isfinite(loss):
            raise self.diverged(f"the loss on the hold-out must be finite, got {loss}")
        for name, weight in self.model.named_parameters():
            if not bool(torch.isfinite(weight).all()):
                raise self.diverged(f"all weights must be finite, got others in {name}")

    def diverged(self, fact: str) -> UserError:
        """Return the error of a training whose numbers are no longer finite."""
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        return UserError(
            f"{fact} at step {self.global_step}, epoch {self.current_epoch + 1}, learning rate {rate:.2e}; "
            "try a lower `optimise.lr`, a longer `optimise.warmup_epochs`, `gradient_clip_val` 1.0 or "
            "`precision` 32"
        )

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Update the moving average, once an update of the weights."""
        if self.ema is not None and self.global_step != self.updates:
            self.ema.update(self.model, step=self.global_step)
        self.updates = self.global_step

    def on_train_start(self) -> None:
        """Continue to count updates where a resumed run stopped."""
        self.updates = self.global_step

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the best score and the size of an update; the schedule depends on the update alone."""
        checkpoint["best_score"] = self.best_score
        checkpoint["images_per_update"] = self.images_per_update()
        checkpoint["lr_schedulers"] = []

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a resumed run counts updates as before."""
        if len(checkpoint["optimizer_states"]) != 1:
            raise UserError(
                "a resumed run must have the state of one optimiser in its last checkpoint, got "
                f"{len(checkpoint['optimizer_states'])}; restore the checkpoint"
            )
        before, now = checkpoint["images_per_update"], self.images_per_update()
        if before != now:
            raise UserError(
                f"a resumed run must keep its {before} images an update, got {now}; resume with the same "
                "`batch_size`, `accumulate_grad_batches` and devices"
            )
        done, wanted = checkpoint["epoch"] + 1, self.trainer.max_epochs or 0
        if done > wanted:
            raise UserError(
                f"a resumed run must be at least as long as it is, {done} epochs, got "
                f"`max_epochs` {wanted}; choose more"
            )

    def images_per_update(self) -> int:
        """Images of one update, over all devices and accumulated batches."""
        data = cast("Any", self.trainer).datamodule
        return int(data.batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches)

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule, stepped at every update."""
        epochs, updates = self.trainer.max_epochs, self.trainer.estimated_stepping_batches
        if epochs is None or epochs < 1 or updates == float("inf"):
            raise UserError(f"a schedule needs an end, got {epochs} epochs; set `max_epochs`")
        optimise = self.optimise.fitting(epochs, int(updates))
        if optimise is not self.optimise:
            self.notes.append(
                f"the warm-up was to last as long as the training: shortened to {optimise.warmup_steps} of "
                f"{updates} updates"
            )
        batch = self.images_per_update()
        cpu = self.device.type == "cpu"
        # A quarter of the time on a CPU. In mixed precision, Lightning does not clip a fused one's gradients.
        fused = cpu and "mixed" not in str(self.trainer.precision)
        optimiser = build_optimiser(self.model, optimise, batch, cpu=cpu, fused=fused)
        schedule = build_schedule(optimiser, optimise, batch, epochs, int(updates))
        check_rates(optimiser)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Scheduler, metric: Any) -> None:  # type: ignore[override]
        """Set the rate of the next update."""
        scheduler.step_update(self.global_step)
        check_rates(scheduler.optimizer)
