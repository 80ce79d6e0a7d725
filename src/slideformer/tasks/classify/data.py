# SPDX-License-Identifier: Apache-2.0
"""The data module of classification, over timm's transforms."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from math import inf, prod
from typing import Any, Literal, cast

from timm.data import create_transform, resolve_data_config
from torch.utils.data import Dataset

from slideformer.errors import UserError, check_range
from slideformer.models.names import pretrained_cfg
from slideformer.runs.preprocessing import (
    LONGEST_INPUT,
    EvalTransform,
    Preprocessing,
    read_preprocessing,
)
from slideformer.tasks.classify.parts import first_images
from slideformer.tasks.classify.samples import images_of, stack
from slideformer.tasks.classify.sources import (
    DEFAULT_SPLIT,
    FOLDER,
    Request,
    find_kind,
    open_source,
    open_timm,
)
from slideformer.tasks.classify.teacher import read_teacher
from slideformer.tasks.images import OnBadImage
from slideformer.tasks.training.batches import Images
from slideformer.tasks.training.data import MOST_PIXELS, ImageData


@dataclass(frozen=True)
class Augment:
    """Random changes of training images, in the words of timm's ``create_transform``.

    Attributes:
        scale: share of the image's area that a random crop takes, from and to.
        ratio: width over height of that crop, from and to.
        hflip: probability of a mirror image, left to right.
        vflip: probability of a mirror image, top to bottom.
        color_jitter: strength of random brightness, contrast and saturation.
        auto_augment: timm's policy, such as ``rand-m9-mstd0.5-inc1``; None for none.
        erase_prob: probability that a random rectangle is erased.
        erase_mode: what fills it: ``const``, ``rand`` or ``pixel``.
        repeats: how often one image comes in a batch, differently augmented; the epoch stays as long, of
            fewer images. 0 for once.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    vflip: float = 0.0
    color_jitter: float = 0.4
    auto_augment: str | None = None
    erase_prob: float = 0.0
    erase_mode: Literal["const", "rand", "pixel"] = "const"
    repeats: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("hflip", "vflip", "erase_prob"):
            check_range(f"`augment.{name}`", getattr(self, name), 0, 1)
        for name in ("color_jitter", "repeats"):
            check_range(f"`augment.{name}`", getattr(self, name), 0)
        for name, highest in (("scale", 1.0), ("ratio", inf)):
            low, high = getattr(self, name)
            if not 0 < low <= high <= highest:
                bound = "" if highest == inf else ", at most 1"
                raise UserError(f"`augment.{name}` must rise from above 0{bound}, got [{low}, {high}]")
        # Timm ignores a part without a number: its strength would be another one than was meant.
        for part in (self.auto_augment or "").split("-")[1:]:
            if not part.startswith("t") and not any(letter.isdigit() for letter in part):
                raise UserError(
                    "`augment.auto_augment` must have a number in each part, as rand-m9 has, "
                    f"got {part} in {self.auto_augment}; correct it"
                )


class ClassificationData(ImageData):
    """Training and hold-out images of one source.

    Args:
        source: a folder with ``train/`` and ``val/``, each with one folder of images a class; ``digits``, the
            embedded handwritten digits; a source of timm, such as ``wds/NAME`` or ``hfds/NAME``; or one that
            was added by `register_source`.
        model: registered name of the model, which knows its input size and normalisation.
        batch_size: images a batch and device. Batches of training are equal: what is left over at the end
            of an epoch, other images in each, is not used.
        num_workers: processes that read images; None for one a core, at most 8.
        image_size: side of the model's input in pixels; None for the model's own.
        augment: random changes of training images.
        on_bad_image: ``skip`` leaves an unreadable image out, prints its path and counts it; ``stop`` stops.
        root: folder of a timm source.
        train_split: name of a timm source's training split.
        val_split: name of a timm source's hold-out split.
        num_classes: number of classes of a timm source.
        most_pixels: largest number of pixels of a batch; more is taken for a mistake.
        download: whether timm may fetch a source that is not there, where it can.
        val_fraction: of a folder of class folders without ``train/`` and ``val/``, the part of each class
            that is held out, by a hash of the files' names: the same images every time. Of a folder of images
            without labels, the part of all; None for 0.1. Of a timm source with images by number, the part of
            its training split, in place of its own hold-out split.
        train_images: how many images to train on, always the same ones; None for all.
        teacher: what knows the classes of images without labels: see `Classifier`. With one, ``source`` may
            be a folder of images in no folders, or in any that are not named after classes.

    Raises:
        UserError: the source is not there or not fit to train on.
    """

    def __init__(
        self,
        source: str,
        model: str = "slide_swin_tiny",
        batch_size: int = 64,
        num_workers: int | None = None,
        image_size: int | None = None,
        augment: Augment = Augment(),
        on_bad_image: OnBadImage = "skip",
        root: str | None = None,
        train_split: str = "train",
        val_split: str = DEFAULT_SPLIT,
        num_classes: int | None = None,
        most_pixels: int = MOST_PIXELS,
        download: bool = False,
        val_fraction: float | None = None,
        train_images: int | None = None,
        teacher: str | None = None,
    ) -> None:
        check_range("`val_fraction`", val_fraction, 0.001, 0.999)
        check_range("`image_size`", image_size, 1, LONGEST_INPUT)
        check_range("`num_classes`", num_classes, 1)
        check_range("`train_images`", train_images, 1)
        self.preprocessing = preprocessing_of(model, image_size)
        pixels = prod(self.preprocessing.input_size[1:])
        super().__init__(
            source,
            batch_size,
            num_workers,
            on_bad_image,
            stack=stack,
            pixels=pixels,
            most_pixels=most_pixels,
        )
        self.augment = augment
        request = Request(
            name=source,
            root=root,
            train_split=train_split,
            val_split=val_split,
            num_classes=num_classes,
            batch_size=batch_size,
            num_workers=self.num_workers,
            download=download,
            val_fraction=val_fraction,
            teacher=None if teacher is None else read_teacher(teacher).facts,
        )
        self.val_fraction, self.train_count = val_fraction, train_images
        self.root, self.val_split = root, val_split
        self.opened = open_source(request)
        if request.teacher is not None:
            check_same_classes(self.label_names, request.teacher.class_names)
        self.train_transform()  # raises for what cannot be, before any work

    def prepare_data(self) -> None:
        """Check the source before the training, on one device."""
        self.opened.check()
        if self.train_count is not None:
            self.train_images()  # raises where there are fewer
        if not self.labelled:
            train, val = (len(cast("Sized", images())) for images in (self.train_images, self.val_images))
            self.say(
                f"images without labels: {train} to train on, {val} held out to measure the agreement with "
                "the teacher"
            )

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, or their numbers, in the order of their numbers."""
        return list(self.opened.class_names)

    @property
    def label_names(self) -> list[str]:
        """Names of the classes; empty where the source has none."""
        return self.class_names if self.opened.named else []

    @property
    def labelled(self) -> bool:
        """Whether the images have labels; if not, only a teacher knows their classes."""
        return self.opened.labelled

    @property
    def evaluable(self) -> bool:
        """Whether ``slideformer evaluate`` reads the source."""
        return self.labelled and find_kind(self.source).evaluable

    @property
    def evaluate_words(self) -> list[str]:
        """The words of ``slideformer evaluate`` that name the source; of one of timm also its hold-out."""
        words = super().evaluate_words
        if find_kind(self.source).open is not open_timm:
            return words
        words += [] if self.root is None else ["--root", self.root]
        words += [] if self.val_fraction is None else ["--val-fraction", str(self.val_fraction)]
        own = self.val_fraction is None and self.val_split != DEFAULT_SPLIT
        return [*words, *(["--split", self.val_split] if own else [])]

    @property
    def folder_fraction(self) -> float | None:
        """The part of each class of a folder that is held out, which an evaluation holds out again."""
        return self.val_fraction if self.labelled and find_kind(self.source) is FOLDER else None

    @property
    def train_size(self) -> tuple[int, int]:
        """Height and width of the model's input, in pixels."""
        return self.preprocessing.input_size[1], self.preprocessing.input_size[2]

    @property
    def repeats(self) -> int:
        """How often one image comes in a batch of training, differently augmented; 0 for once."""
        return self.augment.repeats

    def train_transform(self) -> Any:
        """Random crop, flips, augmentation, normalisation."""
        augment, how = self.augment, self.preprocessing
        try:
            return create_transform(
                input_size=how.input_size,
                interpolation=how.interpolation,
                mean=how.mean,
                std=how.std,
                is_training=True,
                scale=augment.scale,
                ratio=augment.ratio,
                hflip=augment.hflip,
                vflip=augment.vflip,
                # At 0, timm's would still draw random numbers.
                color_jitter=cast("float", augment.color_jitter or None),
                auto_augment=augment.auto_augment,
                re_prob=augment.erase_prob,
                re_mode=augment.erase_mode,
            )
        except (AssertionError, ValueError) as error:
            raise UserError(f"`augment` must be what timm knows, got {augment}: {error}") from error

    def train_images(self) -> Dataset[Any]:
        """Random, augmented images to train on."""
        images = images_of(self.opened, "train", self.train_transform(), self.on_bad_image)
        if self.train_count is None:
            return images
        if not isinstance(images, Images):
            raise UserError(
                "`train_images` needs a source that gives its images by number, got the stream "
                f"{self.source}; leave it out"
            )
        return Images(first_images(images.reader, self.train_count), images.transform, self.on_bad_image)

    def val_images(self) -> Dataset[Any]:
        """Images of the hold-out, nothing random."""
        return images_of(self.opened, "val", EvalTransform(self.preprocessing), self.on_bad_image)


def check_same_classes(data: Sequence[str], teacher: Sequence[str]) -> None:
    """Check that a teacher knows the classes of the data, in their order; unknown names are not compared."""
    if not data or not teacher or list(data) == list(teacher):
        return
    missing, foreign = sorted(set(data) - set(teacher)), sorted(set(teacher) - set(data))
    what = (
        f"without {', '.join(missing) or 'none'} and with the foreign {', '.join(foreign) or 'none'}"
        if missing or foreign or len(data) != len(teacher)
        else f"the order {', '.join(teacher)}"
    )
    raise UserError(
        f"`teacher` must have the {len(data)} classes of the data, in their order, got {what}; "
        "give one that was trained for these classes"
    )


def preprocessing_of(model: str, image_size: int | None) -> Preprocessing:
    """How a model of this name wants its images, as timm has it.

    Args:
        model: registered name.
        image_size: side of the input in pixels; None for the model's own.
    """
    overrides = {} if image_size is None else {"input_size": (3, image_size, image_size)}
    config = resolve_data_config(overrides, pretrained_cfg=pretrained_cfg(model))
    return read_preprocessing(config, model)
