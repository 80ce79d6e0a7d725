# SPDX-License-Identifier: Apache-2.0
"""Detection as a LightningModule: what a step computes, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from torch import Tensor

from slideformer.dense.detector import HEADS, create_detector
from slideformer.dense.features import features_in
from slideformer.errors import check_range
from slideformer.runs import Blueprint, Run, save_run
from slideformer.runs.backbone import load_backbone
from slideformer.tasks.detect.data import DetectionData
from slideformer.tasks.detect.dataset import DetectionBatch
from slideformer.tasks.detect.evaluate import Evaluator
from slideformer.tasks.training.devices import exchanged
from slideformer.tasks.training.learner import Learner
from slideformer.tasks.training.optimise import Optimise

# Of COCO's twelve, the figures that are logged after an epoch.
LOGGED = ("AP", "AP50", "AP75")


class DetectorLearner(Learner):
    """A detector in training.

    Args:
        name: kind of the detector: ``mask_rcnn``, ``cascade_mask_rcnn``, ``faster_rcnn`` or ``retinanet``.
        backbone: registered name of the backbone.
        num_classes: number of classes, without a background; the data tell it.
        weights: where the backbone's weights come from: the folder of a finished classification run, a file,
            or ``timm`` for those that timm publishes; None for a fresh start.
        drop_path_rate: stochastic depth of the backbone; None for its own.
        frozen_stages: how many stages of the backbone, the stem with them, are not trained.
        grad_checkpointing: recompute the backbone's activations in the backward pass, for less memory.
        options: further arguments of the backbone, such as ``{kernel_size: 5}``.
        head: further arguments of the detector, such as ``{fpn_channels: 64}``; see `DetectorOptions`.
        optimise: optimiser and schedule.
        ema_decay: decay of the moving average of the weights, which is then what is evaluated and saved;
            None for no average.
    """

    score = "val/box_AP"
    score_words = "box AP on the hold-out"
    figures = ("train/loss", "val/box_AP", "val/box_AP50", "val/mask_AP", "val/mask_AP50")

    def __init__(
        self,
        name: str = "mask_rcnn",
        backbone: str = "slide_swin_tiny",
        num_classes: int = 80,
        weights: str | None = None,
        drop_path_rate: float | None = None,
        frozen_stages: int = 0,
        grad_checkpointing: bool = False,
        options: dict[str, Any] | None = None,
        head: dict[str, Any] | None = None,
        optimise: Optimise = Optimise(),  # noqa: B008 - frozen
        ema_decay: float | None = None,
    ) -> None:
        check_range("--model.drop_path_rate", drop_path_rate, 0, 0.999)
        arguments = {
            **(head or {}),
            "options": options or {},
            "drop_path_rate": drop_path_rate,
            "frozen_stages": frozen_stages,
            "grad_checkpointing": grad_checkpointing,
        }
        model = create_detector(name, backbone, num_classes, **arguments)
        told = [] if weights is None else load_backbone(features_in(model)[1], weights)
        kept = {
            "name": name,
            "backbone": backbone,
            "num_classes": num_classes,
            "frozen_stages": frozen_stages,
        }
        kept |= {"options": options or {}, "head": head or {}}
        super().__init__(model, kept, optimise, ema_decay)
        self.blueprint = Blueprint("detect", backbone, num_classes, name, arguments)
        self.weights, self.told = weights, told
        self.with_masks = HEADS[name].masks
        self.evaluator: Evaluator | None = None
        self.cropped_away = 0

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Boxes, labels, scores and masks of pictures ``(3, height, width)``, each of its own size."""
        return cast("list[dict[str, Tensor]]", self.evaluated(images))

    def training_step(self, batch: DetectionBatch, index: int) -> Tensor:
        """Sum of a batch's losses."""
        batch = self.usable(batch)
        losses: dict[str, Tensor] = self.model(batch.images, batch.targets)
        loss = self.finite(cast("Tensor", sum(losses.values())))
        size = len(batch.images)
        self.log("train/loss", loss, prog_bar=True, batch_size=size)
        self.log_dict({f"train/{name}": x.detach() for name, x in losses.items()}, batch_size=size)
        return loss

    def on_validation_start(self) -> None:
        """Gather anew."""
        data = cast("DetectionData", cast("Any", self.trainer).datamodule)
        self.evaluator = Evaluator(data.val, with_masks=self.with_masks)

    def validation_step(self, batch: DetectionBatch, index: int) -> None:
        """Gather what is found on one batch of the hold-out."""
        assert self.evaluator is not None
        batch = self.usable(batch)
        if batch.images:
            self.evaluator.update(self(batch.images), [int(target["image_id"]) for target in batch.targets])

    def on_validation_epoch_end(self) -> None:
        """Tell COCO's figures; one that the hold-out has nothing to tell by is 0."""
        assert self.evaluator is not None
        for kind, scores in self.evaluator.compute().items():
            for name in LOGGED:
                figure = scores.figures[name]
                self.log(f"val/{kind}_{name}", 0.0 if figure is None else figure, prog_bar=name == "AP")
        self.evaluator = None

    def usable(self, batch: DetectionBatch) -> DetectionBatch:
        """The batch itself; says, once each, which pictures were left out, and counts what crops cut off."""
        self.tell_unreadable(batch.check().unreadable)
        self.cropped_away += batch.cropped_away
        return batch

    def on_train_end(self) -> None:
        """Bring together what each device has left out."""
        super().on_train_end()
        self.cropped_away = sum(exchanged(self.cropped_away))

    def left_out(self) -> list[str]:
        """What could not be used."""
        count = self.cropped_away
        lines = [f"times that a random crop left nothing of an object: {count}"] if count else []
        return [*super().left_out(), *lines]

    def describe(self, data: DetectionData) -> str:
        """What is about to be trained on what."""
        count = sum(parameter.numel() for parameter in self.model.parameters())
        start = "" if self.weights is None else f", backbone from {self.weights}"
        line = (
            f"{self.hparams['name']} over {self.hparams['backbone']}, {count / 1e6:.2f} M parameters, "
            f"{data.num_classes} classes, {len(data.train_pictures)} pictures to train on, "
            f"{len(data.val.pictures)} held out{start}"
        )
        return "\n".join([line, *self.told])

    def save(self, folder: Path, data: DetectionData) -> None:
        """Write the weights for ``slideformer evaluate``, ``predict`` and ``export``."""
        run = Run(
            model=self.evaluated,
            blueprint=self.blueprint,
            class_names=tuple(data.label_names),
            category_ids=tuple(data.category_ids),
            orientation=data.orientation,
        )
        save_run(run, folder)
