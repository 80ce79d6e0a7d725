# SPDX-License-Identifier: Apache-2.0
"""Detection as a LightningModule."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from slideformer.dense.detector import HEADS, create_detector
from slideformer.errors import check_range
from slideformer.runs import Blueprint, Run
from slideformer.runs.warm_start import start_from
from slideformer.tasks.detect.data import DetectionData
from slideformer.tasks.detect.evaluate import Evaluator
from slideformer.tasks.training.batches import Batch
from slideformer.tasks.training.devices import all_gather_object
from slideformer.tasks.training.learner import Learner
from slideformer.tasks.training.optimise import Optimise

# Of COCO's twelve, the figures that are logged after an epoch.
LOGGED = ("AP", "AP50", "AP75")


class DetectorLearner(Learner):
    """A detector in training.

    Args:
        name: kind of the detector: ``mask_rcnn``, ``cascade_mask_rcnn``, ``faster_rcnn`` or ``retinanet``.
        backbone: registered name of the backbone.
        num_classes: number of classes, without a background; the data know it.
        weights: what it starts from, backbone alone or all: the folder of a finished run, a file of weights,
            or ``timm``; after ``host:`` those of the backbone's plain host. None for fresh ones.
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
        check_range("`drop_path_rate`", drop_path_rate, 0, 0.999)
        arguments = {
            **(head or {}),
            "options": options or {},
            "drop_path_rate": drop_path_rate,
            "frozen_stages": frozen_stages,
            "grad_checkpointing": grad_checkpointing,
        }
        model = create_detector(name, backbone, num_classes, **arguments)
        blueprint = Blueprint("detect", backbone, num_classes, name, arguments)
        notes = [] if weights is None else start_from(weights, model, blueprint)[1]
        kept = {
            "name": name,
            "backbone": backbone,
            "num_classes": num_classes,
            "frozen_stages": frozen_stages,
        }
        kept |= {"options": options or {}, "head": head or {}}
        super().__init__(model, kept, optimise, ema_decay)
        self.blueprint, self.notes = blueprint, notes
        self.with_masks = HEADS[name].masks
        self.evaluator: Evaluator | None = None
        self.cropped_away = 0

    @property
    def over_images(self) -> nn.Module:
        """The backbone with its pyramid; regions take less."""
        return cast("nn.Module", self.model.backbone)

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Boxes, labels, scores and masks of images ``(3, height, width)``, each of its own size."""
        return cast("list[dict[str, Tensor]]", self.evaluated(images))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Sum of a batch's losses."""
        batch = self.usable(batch)
        self.show(batch)
        losses: dict[str, Tensor] = self.model(batch.images, batch.targets)
        loss = cast("Tensor", sum(losses.values()))
        self.log_losses({"loss": loss, **losses}, len(batch.images))
        return loss

    def on_validation_start(self) -> None:
        """Start a new evaluation."""
        data = cast("DetectionData", cast("Any", self.trainer).datamodule)
        self.evaluator = Evaluator(data.val, with_masks=self.with_masks)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Collect the detections of one batch of the hold-out."""
        assert self.evaluator is not None
        batch = self.usable(batch)
        if batch.images:
            self.evaluator.update(self(batch.images), [int(target["image_id"]) for target in batch.targets])

    def on_validation_epoch_end(self) -> None:
        """Log COCO's figures; 0 for one that the hold-out does not define."""
        assert self.evaluator is not None
        for kind, scores in self.evaluator.compute().items():
            for name in LOGGED:
                figure = scores.figures[name]
                # Every device has the same, of all images.
                logged = 0.0 if figure is None else figure
                self.log(f"val/{kind}_{name}", logged, prog_bar=name == "AP", sync_dist=True)
        self.evaluator = None

    def usable(self, batch: Batch) -> Batch:
        """Return the batch itself; print which images were left out, and count cropped objects.

        Raises:
            UserError: the batch must not be used.
        """
        self.cropped_away += super().usable(batch).cropped_away
        return batch

    def on_train_end(self) -> None:
        """Collect from all devices what was left out."""
        super().on_train_end()
        self.cropped_away = sum(all_gather_object(self.cropped_away))

    def left_out(self) -> list[str]:
        """Lines on what was left out, for the end of a run."""
        count = self.cropped_away
        lines = [f"times that a random crop left nothing of an object: {count}"] if count else []
        return [*super().left_out(), *lines]

    def describe(self, data: DetectionData) -> str:
        """Model and data in a line."""
        return (
            f"{self.blueprint.architecture}, {self.size}, {data.num_classes} classes, "
            f"{len(data.images_to_train_on)} images to train on, {len(data.val.images)} held out"
        )

    def as_run(self, data: DetectionData) -> Run:
        """The weights for ``slideformer evaluate``, ``predict`` and ``export``."""
        return Run(
            model=self.evaluated,
            blueprint=self.blueprint,
            class_names=tuple(data.label_names),
            category_ids=tuple(data.category_ids),
            orientation=data.orientation,
        )
