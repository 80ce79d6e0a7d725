# SPDX-License-Identifier: Apache-2.0
"""Semantic segmentation as a LightningModule."""

from __future__ import annotations

from math import nan
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from slideformer.dense.segmenter import Segmenter, create_segmenter
from slideformer.errors import check_range
from slideformer.runs import Blueprint, Run
from slideformer.runs.warm_start import start_from
from slideformer.tasks.segment.data import SegmentationData
from slideformer.tasks.segment.evaluate import SegmentationEvaluation
from slideformer.tasks.segment.labels import IGNORED
from slideformer.tasks.training.batches import Batch
from slideformer.tasks.training.devices import device_mean
from slideformer.tasks.training.learner import Learner
from slideformer.tasks.training.optimise import Optimise


class SegmenterLearner(Learner):
    """A segmenter in training.

    Args:
        name: of the head, ``semantic_fpn`` or ``upernet``.
        backbone: timm's name of the backbone.
        num_classes: number of classes; the data know it.
        weights: what it starts from, backbone alone or all: the folder of a finished run, a file of weights,
            or ``timm``; after ``host:`` those of the backbone's plain host. None for fresh ones.
        drop_path_rate: stochastic depth; None for the backbone's own.
        frozen_stages: how many stages of the backbone, the stem with them, are not trained.
        grad_checkpointing: recompute activations in the backward pass, for less memory.
        options: further arguments of the backbone, such as ``{kernel_size: 5}``.
        head: further arguments of the head, such as ``{channels: 64}``.
        auxiliary_weight: of the auxiliary head's loss, where there is one.
        optimise: optimiser and schedule.
        ema_decay: decay of the moving average of the weights, which is then what is evaluated and saved;
            None for no average.
    """

    score = "val/miou"
    score_words = "mIoU on the hold-out"
    figures = ("train/loss", "val/loss", "val/miou", "val/aacc")

    def __init__(
        self,
        name: str = "semantic_fpn",
        backbone: str = "slide_swin_tiny",
        num_classes: int = 150,
        weights: str | None = None,
        drop_path_rate: float | None = None,
        frozen_stages: int = 0,
        grad_checkpointing: bool = False,
        options: dict[str, Any] | None = None,
        head: dict[str, Any] | None = None,
        auxiliary_weight: float = 0.4,
        optimise: Optimise = Optimise(),  # noqa: B008 - frozen
        ema_decay: float | None = None,
    ) -> None:
        check_range("`drop_path_rate`", drop_path_rate, 0, 0.999)
        check_range("`frozen_stages`", frozen_stages, 0, 4)
        check_range("`auxiliary_weight`", auxiliary_weight, 0)
        kept = {
            "name": name,
            "backbone": backbone,
            "num_classes": num_classes,
            "frozen_stages": frozen_stages,
            "options": options or {},
            "head": head or {},
        }
        arguments = {
            **(head or {}),
            "options": options or {},
            "drop_path_rate": drop_path_rate,
            "frozen_stages": frozen_stages,
            "grad_checkpointing": grad_checkpointing,
        }
        model = create_segmenter(name, backbone, num_classes, **arguments)
        # Before the moving average is made, which begins as a copy.
        blueprint = Blueprint("segment", backbone, num_classes, name, arguments)
        notes = [] if weights is None else start_from(weights, model, blueprint)[1]
        super().__init__(model, kept, optimise, ema_decay)
        self.blueprint, self.notes = blueprint, notes
        self.auxiliary_weight = auxiliary_weight
        self.val_loss = MeanMetric(nan_strategy=nan)  # not "disable", which drops the weights
        self.confusion = MulticlassConfusionMatrix(num_classes, ignore_index=IGNORED, validate_args=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits: ``(B, 3, height, width) -> (B, num_classes, height, width)``."""
        return cast("Tensor", self.evaluated(images))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one batch.

        The gradients of all devices are averaged. For every labelled pixel to count alike, whichever device
        has it, each divides by the mean of the devices' numbers of labelled pixels and not by its own.
        """
        batch = self.usable(batch)
        self.show(batch)
        labelled = device_mean(count_labelled(batch.targets))
        logits, auxiliary = cast("Segmenter", self.model).forward_train(batch.images)
        loss = cross_entropy(logits, batch.targets, labelled)
        if auxiliary is not None:
            loss = loss + self.auxiliary_weight * cross_entropy(auxiliary, batch.targets, labelled)
        self.log_losses({"loss": loss}, len(batch.images))
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Loss and confusion of one batch of the hold-out."""
        images, masks, *_ = self.usable(batch)
        if len(images):
            logits = self(images)
            if logits.shape[-2:] != masks.shape[-2:]:
                logits = F.interpolate(logits, masks.shape[-2:], mode="bilinear", align_corners=False)
            self.confusion.update(logits.argmax(1), masks)
            # As many times as there are images: torchmetrics ignores weights where it keeps NaN.
            loss = cross_entropy(logits, masks, count_labelled(masks))
            self.val_loss(loss.expand(len(images)))
        # On every device, or those that have logged would wait for one without a readable image.
        self.log("val/loss", self.val_loss, batch_size=len(images))

    def on_validation_epoch_end(self) -> None:
        """Log the figures of all images together."""
        names = tuple(map(str, range(self.hparams["num_classes"])))
        found = SegmentationEvaluation(names, self.confusion.compute().cpu())
        self.confusion.reset()
        # Every device has the same, of all images.
        self.log("val/miou", found.miou, prog_bar=True, sync_dist=True)
        self.log("val/macc", found.macc, sync_dist=True)
        self.log("val/aacc", found.aacc, sync_dist=True)

    def describe(self, data: SegmentationData) -> str:
        """Model and data in a line."""
        return (
            f"{self.blueprint.architecture}, {self.size}, {data.num_classes} classes, "
            f"crops of {data.crop_size} x {data.crop_size}"
        )

    def as_run(self, data: SegmentationData) -> Run:
        """The weights for ``slideformer evaluate``, ``predict`` and ``export``."""
        return Run(
            model=self.evaluated,
            blueprint=self.blueprint,
            class_names=tuple(data.label_names),
            short_side=data.short_side,
            crop_size=data.crop_size,
            orientation=data.orientation,
        )


def count_labelled(masks: Tensor) -> Tensor:
    """Number of pixels with a label, as a floating-point tensor."""
    return (masks != IGNORED).sum().float()


def cross_entropy(logits: Tensor, masks: Tensor, labelled: Tensor) -> Tensor:
    """Cross entropy, summed over labelled pixels and divided by a number of them; 0 where there is none.

    Args:
        logits: ``(B, classes, height, width)``.
        masks: class numbers ``(B, height, width)``.
        labelled: the number, not negative.
    """
    total = F.cross_entropy(logits.float(), masks, ignore_index=IGNORED, reduction="sum")
    return total / torch.where(labelled > 0, labelled, 1)
