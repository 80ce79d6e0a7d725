# SPDX-License-Identifier: Apache-2.0
"""Loaders of pictures with label maps, for training and for evaluation."""

from __future__ import annotations

import os
from typing import Any

import lightning as L
from torch import Tensor
from torch.utils.data import DataLoader

from slideformer.console import print_line
from slideformer.errors import UserError, check_range
from slideformer.runs.run import Drawn
from slideformer.tasks.images import OnBadImage
from slideformer.tasks.orientation import tell_ambiguous
from slideformer.tasks.segment.augment import Augment, TrainTransform, fitted, resize
from slideformer.tasks.segment.check import check_data
from slideformer.tasks.segment.dataset import LabelledPictures, collate, collate_to_train
from slideformer.tasks.segment.layout import Source, open_source
from slideformer.tasks.training.batches import MOST_PIXELS, check_loading
from slideformer.tasks.training.sampling import EachOnce, SeededLoader, train_sampler


class SegmentationData(L.LightningDataModule):
    """Training and hold-out pictures of one folder, with label maps of the same names.

    Pictures lie in ``images/train``, ``images/val`` or ``train``, ``val``; label maps, grey or palette PNGs
    of class numbers, in ``masks/train`` and ``masks/val``; ``classes.txt`` names the classes, one a line.
    ADE20K's own layout is taken as it is. The label 255 is neither learnt nor counted.

    Args:
        source: the folder.
        batch_size: crops a batch and device. Batches of training are equal: what is left over at the end
            of an epoch is not used. The hold-out comes one picture at a time, whole.
        num_workers: processes that read pictures; None for one a core, at most 8.
        crop_size: side of a training crop in pixels.
        short_side: to which every picture is resized, in pixels, before training's random scale as well as
            in evaluation; its long side is at most four times that. None for its own size.
        augment: random changes of training pictures.
        on_bad_image: ``skip`` leaves an unreadable pair out, tells its path and counts it; ``stop`` stops.
        most_pixels: largest number of pixels of a batch; more is taken for a mistake.
        orientation: on which pixels labels were drawn, ``upright`` ones or those ``stored``, where EXIF
            turns a picture and its size does not show it.

    Raises:
        UserError: the folder is not there or not fit to train on.
    """

    def __init__(
        self,
        source: str,
        batch_size: int = 16,
        num_workers: int | None = None,
        crop_size: int = 512,
        short_side: int | None = None,
        augment: Augment = Augment(),  # noqa: B008 - frozen
        on_bad_image: OnBadImage = "skip",
        most_pixels: int = MOST_PIXELS,
        orientation: Drawn = "upright",
    ) -> None:
        super().__init__()
        check_range("--data.crop_size", crop_size, 1)
        check_range("--data.short_side", short_side, 1)
        largest = max(batch_size * crop_size**2, 4 * (short_side or 0) ** 2)
        check_loading(batch_size, num_workers, -(-largest // max(1, batch_size)), most_pixels)
        self.source, self.batch_size, self.on_bad_image = source, batch_size, on_bad_image
        self.crop_size, self.short_side, self.augment = crop_size, short_side, augment
        self.num_workers = min(8, os.cpu_count() or 1) if num_workers is None else num_workers
        self.orientation = orientation
        self.opened = open_source(source, orientation)
        self.splits = {name: self.opened.split(name) for name in ("train", "val")}

    def prepare_data(self) -> None:
        """Look at all pictures and label maps, on one device, before the training."""
        findings = check_data(self.source, orientation=self.orientation)
        findings.refuse()
        for line in findings.before_training():
            print_line(line)
        tell_ambiguous(findings, self.orientation)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of their numbers."""
        return list(self.opened.class_names)

    @property
    def label_names(self) -> list[str]:
        """Names of the classes, to be saved with a model."""
        return self.class_names

    @property
    def evaluable(self) -> bool:
        """Whether ``slideformer evaluate`` reads the source: always."""
        return True

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.opened.class_names)

    def train_dataloader(self) -> DataLoader[Any]:
        """Random, augmented crops in batches of equal size."""
        transform = TrainTransform(self.augment, self.crop_size, self.short_side)
        pictures = LabelledPictures(self.opened, self.splits["train"].pairs, transform, self.on_bad_image)
        sampler = train_sampler(pictures, 0, *self.place())
        return SeededLoader(
            pictures,
            self.batch_size,
            sampler=sampler,
            drop_last=len(sampler) >= self.batch_size,
            num_workers=self.num_workers,
            collate_fn=collate_to_train,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """The hold-out, in order, one whole picture at a time."""
        return eval_loader(
            self.opened,
            short_side=self.short_side,
            num_workers=self.num_workers,
            on_bad_image=self.on_bad_image,
            share=self.place(),
        )

    def place(self) -> tuple[int, int]:
        """Number of devices, and which of them this is."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)


def eval_loader(
    source: Source,
    *,
    short_side: int | None = None,
    num_workers: int = 0,
    on_bad_image: OnBadImage = "skip",
    share: tuple[int, int] = (1, 0),
) -> DataLoader[Any]:
    """Loader of the hold-out of a source, one picture a batch, in order, nothing random.

    Args:
        source: the data set.
        short_side: to which pictures are resized, in pixels; labels stay as they are. None for none.
        num_workers: processes that read; 0 reads in this one.
        on_bad_image: what to do with an unreadable pair.
        share: number of devices among which the pictures are shared out, and which of them this is.

    Raises:
        UserError: a number is out of range, or there is no picture.
    """
    check_range("--num-workers", num_workers, 0)

    split = source.split("val")
    if not split.pairs:
        raise UserError(f"the hold-out of {source.root} must hold a labelled picture, got none; add some")
    pictures = LabelledPictures(source, split.pairs, Resized(short_side), on_bad_image)
    return DataLoader(
        pictures, 1, sampler=EachOnce(pictures, *share), num_workers=num_workers, collate_fn=collate
    )


class Resized:
    """A picture at the size at which it is evaluated; its labels at their own.

    Args:
        short_side: in pixels; None for the picture's own.
    """

    def __init__(self, short_side: int | None) -> None:
        self.short_side = short_side

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Resize the picture."""
        size = fitted(image.shape[-2:], self.short_side)
        return (image if size == tuple(image.shape[-2:]) else resize(image, size)), labels
