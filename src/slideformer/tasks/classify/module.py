# SPDX-License-Identifier: Apache-2.0
"""Classification as a LightningModule."""

from __future__ import annotations

from math import nan
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from slideformer.errors import UserError, check_range
from slideformer.models.names import pretrained_cfg
from slideformer.runs import Blueprint, Run
from slideformer.runs.classifier import classifier_run
from slideformer.runs.warm_start import start_from
from slideformer.tasks.classify.data import ClassificationData
from slideformer.tasks.classify.mix import Mix, build_loss
from slideformer.tasks.training.batches import Batch
from slideformer.tasks.training.learner import Learner
from slideformer.tasks.training.optimise import Optimise


class Classifier(Learner):
    """An image classifier in training.

    Args:
        name: registered name of the model.
        num_classes: number of classes; the data know it.
        weights: what it starts from: the folder of a finished run, a file of weights, or ``timm`` for those
            that timm publishes; after ``host:`` those of its plain host. None for fresh ones.
        drop_path_rate: stochastic depth; None for the model's own.
        grad_checkpointing: recompute activations in the backward pass, for less memory.
        options: further arguments of the model, such as ``{kernel_size: 5}``.
        optimise: optimiser and schedule.
        mix: mixing of images and labels.
        smoothing: label smoothing, a share of 1 and below it.
        ema_decay: decay of the moving average of the weights, which is then what is evaluated and saved;
            None for no average.
    """

    score = "val/top1"
    score_words = "top-1 on the hold-out"
    figures = ("train/loss", "val/loss", "val/top1")

    def __init__(
        self,
        name: str = "slide_swin_tiny",
        num_classes: int = 1000,
        weights: str | None = None,
        drop_path_rate: float | None = None,
        grad_checkpointing: bool = False,
        options: dict[str, Any] | None = None,
        optimise: Optimise = Optimise(),  # noqa: B008 - frozen
        mix: Mix = Mix(),  # noqa: B008 - frozen
        smoothing: float = 0.0,
        ema_decay: float | None = None,
    ) -> None:
        check_range("`drop_path_rate`", drop_path_rate, 0, 0.999)
        check_range("`smoothing`", smoothing, 0, 0.999)
        pretrained_cfg(name)  # rejects an unknown name, with the nearest ones
        arguments = dict(options or {})
        if drop_path_rate is not None:
            arguments["drop_path_rate"] = drop_path_rate
        try:
            model: nn.Module = timm.create_model(name, num_classes=num_classes, **arguments)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{name} must be given arguments that it takes, got {arguments}: {error}"
            ) from error
        if grad_checkpointing:
            cast("Any", model).set_grad_checkpointing(True)
        # Before the moving average is made, which begins as a copy.
        blueprint = Blueprint("classify", name, num_classes, arguments=arguments)
        notes = [] if weights is None else start_from(weights, model, blueprint)
        super().__init__(
            model, {"name": name, "num_classes": num_classes, "options": arguments}, optimise, ema_decay
        )
        self.notes = notes
        self.mixer = mix.build(num_classes, smoothing)
        self.loss = build_loss(self.mixer is not None, smoothing)
        self.val_loss = MeanMetric(nan_strategy=nan)  # not "disable", which drops the weights
        self.top1 = MulticlassAccuracy(num_classes, average="micro")
        self.top5 = MulticlassAccuracy(num_classes, average="micro", top_k=min(5, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits: ``(B, 3, height, width) -> (B, num_classes)``."""
        return cast("Tensor", self.evaluated(images))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one batch."""
        batch = self.usable(batch)
        images, targets = batch.images, batch.targets
        if self.mixer is not None:
            odd = len(images) % 2  # images are mixed in pairs: the odd one's partner is the first
            images, targets = self.mixer(*(torch.cat([x, x[:odd]]) for x in (images, targets)))
        self.show(batch._replace(images=images, targets=targets))
        loss = self.finite(self.loss(self.model(images), targets))
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Loss and accuracy of one batch of the hold-out."""
        batch = self.usable(batch)
        size = len(batch.images)
        if not size:
            return
        logits = self(batch.images)
        self.top1(logits, batch.targets)
        self.top5(logits, batch.targets)
        self.val_loss(nn.functional.cross_entropy(logits, batch.targets, reduction="none"))
        self.log("val/loss", self.val_loss, batch_size=size)
        self.log("val/top1", self.top1, prog_bar=True, batch_size=size)
        self.log("val/top5", self.top5, batch_size=size)

    def describe(self, data: ClassificationData) -> str:
        """Model and data in a line."""
        size = "x".join(str(side) for side in data.preprocessing.input_size)
        return f"{self.hparams['name']}, {self.size}, {data.num_classes} classes, input {size}"

    def as_run(self, data: ClassificationData) -> Run:
        """The weights as ``timm.create_model`` finds them, once they are saved."""
        return classifier_run(
            self.evaluated,
            class_names=data.label_names,
            preprocessing=data.preprocessing,
            arguments=self.hparams["options"],
        )
