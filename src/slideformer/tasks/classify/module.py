# SPDX-License-Identifier: Apache-2.0
"""Classification as a LightningModule."""

from __future__ import annotations

from math import nan
from typing import Any, cast

import timm
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from slideformer.errors import UserError, check_range
from slideformer.models.names import pretrained_cfg
from slideformer.runs import Blueprint, Preprocessing, Run
from slideformer.runs.classifier import classifier_run
from slideformer.runs.warm_start import start_from
from slideformer.tasks.classify.data import ClassificationData, preprocessing_of
from slideformer.tasks.classify.distil import Distil, answers
from slideformer.tasks.classify.mix import Mix, build_loss
from slideformer.tasks.classify.teacher import Teacher, open_teacher
from slideformer.tasks.training.batches import Batch
from slideformer.tasks.training.freeze import Freeze
from slideformer.tasks.training.learner import Learner
from slideformer.tasks.training.optimise import Optimise


class Classifier(Learner):
    """An image classifier in training.

    Args:
        name: registered name of the model.
        num_classes: number of classes; the data know it.
        weights: what it starts from: the folder of a finished run, a file of weights, or ``timm`` for those
            that timm publishes; after ``host:`` those of its plain host. None for fresh ones.
        freeze: first epochs in which only what ``weights`` leave new is trained; None for none.
        teacher: whose answers it learns to give, next to labels or instead of them: the folder of a finished
            run, or timm's name of a model, whose weights it fetches; None for labels alone.
        distil: how closely it follows the teacher.
        drop_path_rate: stochastic depth; None for the model's own.
        grad_checkpointing: recompute activations in the backward pass, for less memory.
        options: further arguments of the model, such as ``{kernel_size: 5}``.
        optimise: optimiser and schedule.
        mix: mixing of images and labels.
        smoothing: label smoothing, a share of 1 and below it.
        ema_decay: decay of the moving average of the weights, which is then what is evaluated and saved;
            None for no average.
        labelled: whether the images have labels; the data know it.
        preprocessing: how the images are made; the data know it. None for the model's own way.
    """

    score = "val/top1"
    score_words = "top-1 on the hold-out"

    def __init__(
        self,
        name: str = "slide_swin_tiny",
        num_classes: int = 1000,
        weights: str | None = None,
        freeze: int | None = None,
        teacher: str | None = None,
        distil: Distil = Distil(),  # noqa: B008 - frozen
        drop_path_rate: float | None = None,
        grad_checkpointing: bool = False,
        options: dict[str, Any] | None = None,
        optimise: Optimise = Optimise(),  # noqa: B008 - frozen
        mix: Mix = Mix(),  # noqa: B008 - frozen
        smoothing: float = 0.0,
        ema_decay: float | None = None,
        labelled: bool = True,
        preprocessing: Preprocessing | None = None,
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
        start, notes = (None, []) if weights is None else start_from(weights, model, blueprint)
        seen = preprocessing_of(name, None) if preprocessing is None else preprocessing
        opened = None if teacher is None else follow(teacher, model, num_classes, seen, distil)
        kept = {"name": name, "num_classes": num_classes, "options": arguments}
        # Under their own names only where there is one: a checkpoint of a training without stays the same.
        kept |= {} if opened is None else {"teacher": opened.digest}
        super().__init__(model, kept, optimise, ema_decay)
        self.notes = [*notes, *([] if opened is None else [str(opened)])]
        self.teacher, self.distil, self.labelled = opened, distil, labelled
        if not labelled:
            if opened is None:
                raise UserError("images without labels must have a `teacher`, got none; give one")
            self.score, self.score_words = "val/agreement", "agreement with the teacher on the hold-out"
        self.figures = ("train/loss", "val/loss", self.score)
        self.freezing = None if freeze is None else Freeze(freeze, None if start is None else start.new)
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
        loss = self.loss_of(images, targets)
        self.log_losses({"loss": loss}, len(images))
        return loss

    def loss_of(self, images: Tensor, targets: Tensor) -> Tensor:
        """The loss by labels and by the teacher, as far as there are any."""
        if self.teacher is None:
            return cast("Tensor", self.loss(self.model(images), targets))
        student = answers(self.model, images, maps=self.teacher.stages > 0)
        loss = self.distil.loss(student, self.teacher(images))
        return loss + self.loss(student.logits, targets) if self.labelled else loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Loss and accuracy of one batch of the hold-out; without labels, by the teacher's classes."""
        batch = self.usable(batch)
        size = len(batch.images)
        if size:
            logits, targets = self(batch.images), batch.targets
            if self.teacher is not None and not self.labelled:
                targets = self.teacher(batch.images).logits.argmax(1)
            self.top1(logits, targets)
            self.top5(logits, targets)
            self.val_loss(nn.functional.cross_entropy(logits, targets, reduction="none"))
        # On every device, or those that have logged would wait for one without a readable image.
        self.log("val/loss", self.val_loss, batch_size=size)
        self.log(self.score, self.top1, prog_bar=True, batch_size=size)
        self.log("val/top5" if self.labelled else "val/agreement5", self.top5, batch_size=size)

    def configure_callbacks(self) -> list[Callback]:
        """The callbacks that belong to the model's first weights."""
        return [] if self.freezing is None else [self.freezing]

    def describe(self, data: ClassificationData) -> str:
        """Model and data in a line."""
        size = "x".join(str(side) for side in data.preprocessing.input_size)
        line = f"{self.hparams['name']}, {self.size}, {data.num_classes} classes, input {size}"
        hint = "; images without labels: names of folders do not count, the classes are the teacher's"
        return line if data.labelled else line + hint

    def as_run(self, data: ClassificationData) -> Run:
        """The weights as ``timm.create_model`` finds them, once they are saved."""
        return classifier_run(
            self.evaluated,
            class_names=data.label_names,
            preprocessing=data.preprocessing,
            arguments=self.hparams["options"],
            val_fraction=data.folder_fraction,
        )


def follow(source: str, model: nn.Module, num_classes: int, seen: Preprocessing, distil: Distil) -> Teacher:
    """Open the teacher of a model that learns.

    Args:
        source: folder of a run, or name.
        model: that learns.
        num_classes: of the model.
        seen: how its images are made.
        distil: what is learned.

    Raises:
        UserError: the source cannot teach this model, or ``distil`` leaves nothing to learn.
    """
    teacher = Teacher(open_teacher(source, num_classes), model, seen, maps=distil.maps > 0)
    if not distil.logits and not teacher.stages:
        raise UserError(
            f"`distil` must leave something to learn, got logits 0 and no stage maps that {teacher.name} and "
            "the model share; raise `distil.logits`"
        )
    return teacher
