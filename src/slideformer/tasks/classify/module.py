# SPDX-License-Identifier: Apache-2.0
"""Classification as a LightningModule: what a step computes, nothing else."""

from __future__ import annotations

from typing import Any, cast

import lightning as L
import timm
import torch
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from slideformer.errors import UserError, check_range
from slideformer.models.names import pretrained_cfg
from slideformer.tasks.classify.datasets import Batch
from slideformer.tasks.classify.optimise import Mix, Optimise, build_loss, build_optimiser, build_schedule


class Classifier(L.LightningModule):
    """An image classifier in training.

    Args:
        name: registered name of the model.
        num_classes: number of classes; the data tell it.
        drop_path_rate: stochastic depth; None for the model's own.
        grad_checkpointing: recompute activations in the backward pass, for less memory.
        options: further arguments of the model, such as ``{kernel_size: 5}``.
        optimise: optimiser and schedule.
        mix: mixing of images and labels.
        smoothing: label smoothing, a share of 1.
        ema_decay: decay of the moving average of the weights, which is then what is evaluated and saved;
            None for no average.
    """

    def __init__(
        self,
        name: str = "slide_swin_tiny",
        num_classes: int = 1000,
        drop_path_rate: float | None = None,
        grad_checkpointing: bool = False,
        options: dict[str, Any] | None = None,
        optimise: Optimise = Optimise(),  # noqa: B008 - frozen
        mix: Mix = Mix(),  # noqa: B008 - frozen
        smoothing: float = 0.0,
        ema_decay: float | None = None,
    ) -> None:
        super().__init__()
        check_range("--model.drop_path_rate", drop_path_rate, 0, 0.999)
        check_range("--model.smoothing", smoothing, 0, 1)
        check_range("--model.ema_decay", ema_decay, 0, 0.9999999)
        pretrained_cfg(name)  # refuses an unknown name, with the nearest ones
        arguments = (
            dict(options or {})
            if drop_path_rate is None
            else {**(options or {}), "drop_path_rate": drop_path_rate}
        )
        # What a resumed run may not change; rates and length it may. Plain values only, so that a
        # checkpoint loads without running code.
        kept = {"name": name, "num_classes": num_classes, "options": arguments, "ema_decay": ema_decay}
        self.save_hyperparameters({**kept, **optimise.fixed()}, logger=False)
        try:
            self.model: nn.Module = timm.create_model(name, num_classes=num_classes, **arguments)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{name} must be given arguments that it takes, got {arguments}: {error}"
            ) from error
        if grad_checkpointing:
            cast("Any", self.model).set_grad_checkpointing(True)
        self.ema = (
            None if ema_decay is None else ModelEmaV3(self.model, decay=ema_decay).requires_grad_(False)
        )
        self.optimise = optimise
        self.mixer = mix.build(num_classes, smoothing)
        self.loss = build_loss(self.mixer is not None, smoothing)
        self.val_loss = MeanMetric()
        self.top1 = MulticlassAccuracy(num_classes, average="micro")
        self.top5 = MulticlassAccuracy(num_classes, average="micro", top_k=min(5, num_classes))
        self.unreadable: set[str] = set()
        self.updates = 0

    @property
    def evaluated(self) -> nn.Module:
        """The weights that count: the moving average where there is one."""
        return cast("nn.Module", self.model if self.ema is None else self.ema.module)

    def forward(self, images: Tensor) -> Tensor:
        """Logits: ``(B, 3, height, width) -> (B, num_classes)``."""
        return cast("Tensor", self.evaluated(images))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one batch.

        Raises:
            UserError: the loss is not finite.
        """
        images, targets = self.readable(batch)
        if self.mixer is not None:
            odd = len(images) % 2  # images are mixed in pairs: the odd one's partner is the first
            images, targets = self.mixer(*(torch.cat([x, x[:odd]]) for x in (images, targets)))
        loss: Tensor = self.loss(self.model(images), targets)
        if not torch.isfinite(loss):
            raise UserError(self.diverged(loss))
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Loss and accuracy of one batch of the hold-out."""
        images, targets = self.readable(batch)
        logits = self(images)
        self.top1(logits, targets)
        self.top5(logits, targets)
        size = len(images)
        self.val_loss(nn.functional.cross_entropy(logits, targets), size)
        self.log("val/loss", self.val_loss, batch_size=size)
        self.log("val/top1", self.top1, prog_bar=True, batch_size=size)
        self.log("val/top5", self.top5, batch_size=size)

    def readable(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images and targets of a batch; says, once each, which images were left out.

        Raises:
            UserError: the batch must not be used.
        """
        for path in batch.check().unreadable:
            if path not in self.unreadable:
                self.unreadable.add(path)
                print(f"left out, unreadable: {path}", flush=True)
        return batch.images, batch.targets

    def diverged(self, loss: Tensor) -> str:
        """What to say of a loss that is not finite."""
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        return (
            f"the loss must be finite, got {loss.item()} at step {self.global_step}, "
            f"learning rate {rate:.2e}; "
            "try a lower --model.optimise.lr, a longer --model.optimise.warmup_epochs, "
            "--trainer.gradient_clip_val 1.0 or --trainer.precision 32"
        )

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Follow the weights with the moving average, once an update."""
        if self.ema is not None and self.global_step != self.updates:
            self.ema.update(self.model, step=self.global_step)
        self.updates = self.global_step

    def on_train_start(self) -> None:
        """Go on counting updates where a resumed run stopped."""
        self.updates = self.global_step

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note what an update is made of, and leave out the schedule, a function of the update alone."""
        checkpoint["images_per_update"] = self.images_per_update()
        checkpoint["lr_schedulers"] = []

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on where updates would count anew.

        Raises:
            UserError: an update has another number of images, or the training is already longer.
        """
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
        self.optimise.refuse_shorter(epochs)
        batch = self.images_per_update()
        optimiser = build_optimiser(self.model, self.optimise, batch)
        schedule = build_schedule(optimiser, self.optimise, batch, epochs, int(updates))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Scheduler, metric: Any) -> None:  # type: ignore[override]
        """Set the rate of the next update."""
        scheduler.step_update(self.global_step)
