# SPDX-License-Identifier: Apache-2.0
"""The record of a trained model: the model itself, how it is built, and everything known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import nn

from slideformer.runs.preprocessing import Preprocessing

TaskName = Literal["classify", "detect", "segment"]
Drawn = Literal["upright", "stored"]


@dataclass(frozen=True)
class Blueprint:
    """How a model is built, as plain values.

    Attributes:
        task: what the model does.
        backbone: timm's name of the classifier or backbone.
        num_classes: number of classes, without a background of the model's own.
        head: of a detector or segmenter, the name of its head, such as ``mask_rcnn``; empty for a classifier.
        arguments: further arguments of the builder, by name.
    """

    task: TaskName
    backbone: str
    num_classes: int
    head: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """The name of the model for people."""
        return f"{self.head} over {self.backbone}" if self.head else self.backbone


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything known about a model besides its weights; it goes with a run and with an exported file.

    Attributes:
        task: what the model does.
        architecture: its name.
        num_classes: number of classes; None if unknown.
        class_names: name of each class, in the order of logits or labels; empty if unknown.
        category_ids: number of each class in the data that a detector was trained on; None for 0, 1, 2, ...
        preprocessing: of a classifier; None for a model that normalises by itself.
        val_fraction: of each class of a classifier's folder that was held out; None where ``val/`` was.
        random: whether the weights are random, those of a model opened by name.
    """

    task: TaskName
    architecture: str
    num_classes: int | None = None
    class_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] | None = None
    preprocessing: Preprocessing | None = None
    val_fraction: float | None = None
    random: bool = False

    def names(self) -> tuple[str, ...]:
        """The name of each class; its number where the names are unknown (labels of detectors begin at 1)."""
        first = 1 if self.task == "detect" else 0
        return self.class_names or tuple(str(first + number) for number in range(self.num_classes or 0))


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trained model and everything known about it.

    Attributes:
        model: in evaluation mode, not merged.
        blueprint: how it is built.
        class_names: name of each class, in the order of logits or labels; empty if unknown.
        category_ids: number of each class in the data that a detector was trained on; None for 0, 1, 2, ...
        preprocessing: of a classifier; None for a model that normalises by itself.
        short_side: to which images are resized for a segmenter, in pixels; None for their own size.
        crop_size: side of the crops that a segmenter was trained on, in pixels; None if unknown.
        orientation: the pixels on which annotations were drawn, of images that EXIF rotates.
        val_fraction: of each class of a classifier's folder that was held out; None where ``val/`` was.
        only_size: height and width in pixels of the only images that an exported detector or segmenter
            takes; None for any.
        folder: where the run is, or the exported file; None for a model opened by name.
        random: whether the weights are random, those of a model opened by name.
    """

    model: nn.Module
    blueprint: Blueprint
    class_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] | None = None
    preprocessing: Preprocessing | None = None
    short_side: int | None = None
    crop_size: int | None = None
    orientation: Drawn = "upright"
    val_fraction: float | None = None
    only_size: tuple[int, int] | None = None
    folder: Path | None = None
    random: bool = False

    @property
    def task(self) -> TaskName:
        """The task: ``"classify"``, ``"detect"`` or ``"segment"``."""
        return self.blueprint.task

    @property
    def name(self) -> str:
        """The name of the run in messages: its folder, or the model's name."""
        return self.blueprint.architecture if self.folder is None else str(self.folder)

    @property
    def facts(self) -> Facts:
        """Everything that goes with an exported model."""
        return Facts(
            task=self.task,
            architecture=self.blueprint.architecture,
            num_classes=self.blueprint.num_classes,
            class_names=self.class_names,
            category_ids=self.category_ids,
            preprocessing=self.preprocessing,
            val_fraction=self.val_fraction,
            random=self.random,
        )

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height and width of an image that the model takes, where no other size is asked for."""
        return (3, *DENSE_SIDES) if self.preprocessing is None else self.preprocessing.input_size


# Height and width of the image that a detector or segmenter is traced with.
DENSE_SIDES = (160, 192)
