# SPDX-License-Identifier: Apache-2.0
"""Loaders of labelled images, for training and for evaluation, over timm's readers and transforms."""

from __future__ import annotations

import os
from collections.abc import Sized
from dataclasses import dataclass
from math import inf, prod
from typing import Any, Literal, cast

import lightning as L
from timm.data import create_transform
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from slideformer.errors import UserError, check_range
from slideformer.runs.preprocessing import LONGEST_INPUT, EvalTransform, read_preprocessing
from slideformer.tasks.classify.datasets import (
    FolderReader,
    Images,
    collate,
    collate_to_train,
    open_reader,
    source_class_names,
)
from slideformer.tasks.classify.loaders import eval_loader, transform_config
from slideformer.tasks.classify.timm_sources import PREFIXES, TimmSource, TimmStream
from slideformer.tasks.images import OnBadImage
from slideformer.tasks.training.batches import MOST_PIXELS, check_loading
from slideformer.tasks.training.sampling import EachOnce, SeededLoader, train_sampler


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
        """Refuse what changes nothing sensible."""
        for option in ("hflip", "vflip", "erase_prob"):
            check_range(f"--data.augment.{option}", getattr(self, option), 0, 1)
        for option in ("color_jitter", "repeats"):
            check_range(f"--data.augment.{option}", getattr(self, option), 0)
        for option, highest in (("scale", 1.0), ("ratio", inf)):
            low, high = getattr(self, option)
            if not 0 < low <= high <= highest:
                bound = "" if highest == inf else ", at most 1"
                raise UserError(f"--data.augment.{option} must rise from above 0{bound}, got [{low}, {high}]")
        # Timm passes over a part without a number: its strength would be another one than was meant.
        for part in (self.auto_augment or "").split("-")[1:]:
            if not part.startswith("t") and not any(letter.isdigit() for letter in part):
                raise UserError(
                    "--data.augment.auto_augment must have a number in each part, as rand-m9 has, "
                    f"got {part} in {self.auto_augment}; correct it"
                )


class ClassificationData(L.LightningDataModule):
    """Training and hold-out images of one source.

    Args:
        source: a folder with ``train/`` and ``val/``, each with one folder of images a class; ``digits``, the
            embedded handwritten digits; or a source of timm, such as ``wds/NAME`` or ``hfds/NAME``.
        model: registered name of the model, which knows its input size and normalisation.
        batch_size: images a batch and device. Batches of training are equal: what is left over at the end
            of an epoch, other images in each, is not used.
        num_workers: processes that read images; None for one a core, at most 8.
        image_size: side of the model's input in pixels; None for the model's own.
        augment: random changes of training images.
        on_bad_image: ``skip`` leaves an unreadable image out, tells its path and counts it; ``stop`` stops.
        root: folder of a timm source.
        train_split: name of a timm source's training split.
        val_split: name of a timm source's hold-out split.
        num_classes: number of classes of a timm source.
        most_pixels: largest number of pixels of a batch; more is taken for a mistake.
        download: whether timm may fetch a source that is not there, where it can.

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
        val_split: str = "validation",
        num_classes: int | None = None,
        most_pixels: int = MOST_PIXELS,
        download: bool = False,
    ) -> None:
        super().__init__()
        check_range("--data.image_size", image_size, 1, LONGEST_INPUT)
        check_range("--data.num_classes", num_classes, 1)
        self.source = source
        self.batch_size, self.augment, self.on_bad_image = batch_size, augment, on_bad_image
        self.num_workers = min(8, os.cpu_count() or 1) if num_workers is None else num_workers
        self.config = transform_config(model, image_size)
        check_loading(batch_size, num_workers, prod(self.config["input_size"][1:]), most_pixels)
        self.by_timm: TimmSource | None = None
        if source.lower().startswith(PREFIXES):
            if num_classes is None:
                raise UserError(
                    f"a source of timm must say its classes, got {source}; pass --data.num_classes N"
                )
            self.class_names = [str(number) for number in range(num_classes)]
            self.by_timm = TimmSource(
                source, root, {"train": train_split, "val": val_split}, num_classes, batch_size, download
            )
        else:
            if num_classes is not None:
                raise UserError(f"the classes of {source} are its own; leave --data.num_classes out")
            self.class_names = source_class_names(source)
        self.train_transform()  # refuses what cannot be, before any work

    def prepare_data(self) -> None:
        """Refuse a class without a readable image, or a source that timm cannot open, before the training."""
        if self.by_timm is not None:
            for split in self.by_timm.splits:
                self.by_timm.open(split)
        else:
            reader = open_reader(self.source, "train", self.class_names)
            if isinstance(reader, FolderReader):
                reader.refuse_unreadable_class()

    @property
    def label_names(self) -> list[str]:
        """Names of the classes, or nothing where a source does not tell them."""
        return [] if self.by_timm else self.class_names

    @property
    def evaluable(self) -> bool:
        """Whether ``slideformer evaluate`` reads the source."""
        return not self.by_timm

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    def train_transform(self) -> Any:
        """Random crop, flips, augmentation, normalisation."""
        augment = self.augment
        try:
            return create_transform(
                **{key: self.config[key] for key in ("input_size", "interpolation", "mean", "std")},
                is_training=True,
                scale=augment.scale,
                ratio=augment.ratio,
                hflip=augment.hflip,
                vflip=augment.vflip,
                color_jitter=augment.color_jitter,
                auto_augment=augment.auto_augment,
                re_prob=augment.erase_prob,
                re_mode=augment.erase_mode,
            )
        except (AssertionError, ValueError) as error:
            raise UserError(f"--data.augment must be what timm knows, got {augment}: {error}") from error

    def train_dataloader(self) -> DataLoader[Any]:
        """Random, augmented batches of equal size."""
        transform = self.train_transform()
        if self.by_timm is not None:
            return self.timm_loader(self.by_timm, "train", transform)
        images = Images(open_reader(self.source, "train", self.class_names), transform, self.on_bad_image)
        sampler = self.sampler(images, training=True)
        return SeededLoader(
            images,
            self.batch_size,
            sampler=sampler,
            # Equal batches, unless the images of a device do not make one.
            drop_last=len(sampler) >= self.batch_size,
            num_workers=self.num_workers,
            collate_fn=collate_to_train,
        )

    def sampler(self, images: Sized, training: bool) -> DistributedSampler[Any]:
        """This device's share of the images."""
        if training:
            return train_sampler(images, self.augment.repeats, *self.place())
        return EachOnce(cast("Dataset[Any]", images), *self.place())

    def place(self) -> tuple[int, int]:
        """Number of devices, and which of them this is."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)

    def val_dataloader(self) -> DataLoader[Any]:
        """The hold-out, in order."""
        if self.by_timm is not None:
            transform = EvalTransform(read_preprocessing(self.config, "the model"))
            return self.timm_loader(self.by_timm, "val", transform)
        return eval_loader(
            self.source,
            self.class_names,
            self.config,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            on_bad_image=self.on_bad_image,
            share=self.place(),
        )

    def timm_loader(self, source: TimmSource, split: str, transform: Any) -> DataLoader[Any]:
        """Batches of a source that timm reads."""
        training = split == "train"
        images = source.images(split, transform, self.on_bad_image, self.num_workers)
        # Streams shuffle and share out by themselves.
        sampler = None if isinstance(images, TimmStream) else self.sampler(images, training)
        return SeededLoader(
            images,
            self.batch_size,
            sampler=sampler,
            drop_last=training,
            num_workers=self.num_workers,
            collate_fn=collate_to_train if training else collate,
        )
