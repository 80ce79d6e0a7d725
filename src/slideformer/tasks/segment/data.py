# SPDX-License-Identifier: Apache-2.0
"""Loaders of images with label maps, for training and for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from slideformer.errors import UserError, check_range
from slideformer.runs.run import Drawn
from slideformer.tasks.images import OnBadImage
from slideformer.tasks.orientation import ambiguous_line
from slideformer.tasks.segment.augment import Augment, TrainTransform, fitted, resize
from slideformer.tasks.segment.check import check_data
from slideformer.tasks.segment.labels import read_pair
from slideformer.tasks.segment.layout import Pair, Source, open_source
from slideformer.tasks.training.batches import Batch, Images, Workers, ordered_loader
from slideformer.tasks.training.data import MOST_PIXELS, ImageData


class SegmentationData(ImageData):
    """Training and hold-out images of one folder, with label maps of the same names.

    Images are in ``images/train``, ``images/val`` or ``train``, ``val``; label maps, grey or palette PNGs
    of class numbers, in ``masks/train`` and ``masks/val``; ``classes.txt`` names the classes, one a line.
    ADE20K's own layout is read, too. The label 255 is neither trained on nor counted.

    Args:
        source: the folder.
        batch_size: crops a batch and device. Batches of training are equal: what is left over at the end
            of an epoch is not used. The hold-out comes one complete image at a time.
        num_workers: processes that read images; None for one a core, at most 8.
        crop_size: side of a training crop in pixels.
        short_side: to which every image is resized, in pixels, before training's random scale as well as
            in evaluation; its long side is at most four times that. None for its own size.
        augment: random changes of training images.
        on_bad_image: ``skip`` leaves an unreadable pair out, prints its path and counts it; ``stop`` stops.
        most_pixels: largest number of pixels of a batch; more is taken for a mistake.
        orientation: on which pixels labels were drawn, ``upright`` ones or those ``stored``, where EXIF
            rotates an image and its size does not show it.

    Raises:
        UserError: the folder does not exist or cannot be trained on.
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
        check_range("`crop_size`", crop_size, 1)
        check_range("`short_side`", short_side, 1)
        # An image of the hold-out, of any proportions, counts as a batch.
        held_out = 4 * (short_side or 0) ** 2
        super().__init__(
            source,
            batch_size,
            num_workers,
            on_bad_image,
            stack=stack,
            pixels=max(crop_size**2, -(-held_out // max(1, batch_size))),
            most_pixels=most_pixels,
        )
        self.crop_size, self.short_side, self.augment = crop_size, short_side, augment
        self.orientation = orientation
        self.opened = open_source(source, orientation)
        self.splits = {name: self.opened.split(name) for name in ("train", "val")}

    def prepare_data(self) -> None:
        """Check all images and label maps, on one device, before the training."""
        findings = check_data(self.source, orientation=self.orientation)
        findings.check()
        for line in findings.before_training() + ambiguous_line(findings, self.orientation):
            self.say(line)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of their numbers."""
        return list(self.opened.class_names)

    @property
    def train_size(self) -> tuple[int, int]:
        """Height and width of a training crop, in pixels."""
        return self.crop_size, self.crop_size

    @property
    def val_batch_size(self) -> int:
        """Images a batch of the hold-out, which may be of any size."""
        return 1

    def train_images(self) -> Dataset[Any]:
        """Random, augmented crops to train on."""
        transform = TrainTransform(self.augment, self.crop_size, self.short_side)
        return Images(PairReader(self.opened, self.splits["train"].pairs), transform, self.on_bad_image)

    def val_images(self) -> Dataset[Any]:
        """Complete images of the hold-out, nothing random."""
        return eval_images(self.opened, self.short_side, self.on_bad_image)


class PairReader:
    """Images with their label maps, by number.

    Args:
        source: the data set.
        pairs: those of its pairs that are read.
    """

    def __init__(self, source: Source, pairs: Sequence[Pair]) -> None:
        self.source, self.pairs = source, pairs

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Read one image ``(3, height, width)`` and its labels ``(height, width)``, both 8-bit."""
        labelled = read_pair(self.pairs[index], self.source)
        image = torch.from_numpy(np.array(labelled.image)).permute(2, 0, 1)
        return image, torch.from_numpy(labelled.labels)

    def name(self, index: int) -> str:
        """Return the path of one image."""
        return str(self.pairs[index].image)


class Resized:
    """Resizes an image for evaluation; its labels keep their size.

    Args:
        short_side: in pixels; None for the image's own.
    """

    def __init__(self, short_side: int | None) -> None:
        self.short_side = short_side

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Resize the image."""
        size = fitted(image.shape[-2:], self.short_side)
        return (image if size == tuple(image.shape[-2:]) else resize(image, size)), labels


def stack(samples: Sequence[tuple[Tensor, Tensor]]) -> Batch:
    """Make a batch of images of one size, pixels in [0, 1], perhaps of none."""
    if not samples:
        return Batch(torch.empty(0, 3, 1, 1), torch.empty(0, 1, 1).long())
    images, masks = (torch.stack(list(column)) for column in zip(*samples, strict=True))
    return Batch(images.float() / 255, masks.long())


def eval_images(source: Source, short_side: int | None, on_bad_image: OnBadImage) -> Images:
    """The hold-out of a source, by number, nothing random."""
    pairs = source.split("val").pairs
    if not pairs:
        raise UserError(f"the hold-out of {source.root} must hold a labelled image, got none; add some")
    return Images(PairReader(source, pairs), Resized(short_side), on_bad_image)


def eval_loader(
    source: Source,
    *,
    short_side: int | None = None,
    num_workers: Workers = None,
    on_bad_image: OnBadImage = "skip",
) -> DataLoader[Any]:
    """Loader of the hold-out of a source, one image a batch, in order, nothing random.

    Args:
        source: the data set.
        short_side: to which images are resized, in pixels; labels keep their size. None for none.
        num_workers: as of `ordered_loader`.
        on_bad_image: what to do with an unreadable pair.

    Raises:
        UserError: a number is out of range, or there is no image.
    """
    images = eval_images(source, short_side, on_bad_image)
    return ordered_loader(images, stack, batch_size=1, num_workers=num_workers)
