# SPDX-License-Identifier: Apache-2.0
"""Random changes of images and their label maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from slideformer.errors import UserError, check_range
from slideformer.tasks.segment.labels import IGNORED

# The long side of a resized image is at most this many times the short side that was asked for.
LONGEST = 4
# How often a crop with too much of one class is drawn again.
ATTEMPTS = 10
# ImageNet's mean colour, for pixels outside an image: near 0 to most backbones.
OUTSIDE = (124, 116, 104)
LARGEST_SCALE = 32


@dataclass(frozen=True)
class Augment:
    """Random changes of training images, as the paper's (OpenMMLab's) for ADE20K.

    Attributes:
        scale: factor of the size of an image before it is cropped, from and to.
        max_class_share: a crop of which one class takes more is drawn again, up to ten times; 1 for never.
        hflip: probability of a mirror image, left to right.
        vflip: probability of a mirror image, top to bottom.
        transpose: probability that rows and columns are exchanged; with both mirror images all quarter turns.
        photometric: probability of each change of brightness, contrast, saturation and hue.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    max_class_share: float = 0.75
    hflip: float = 0.5
    vflip: float = 0.0
    transpose: float = 0.0
    photometric: float = 0.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("max_class_share", "hflip", "vflip", "transpose", "photometric"):
            check_range(f"`augment.{name}`", getattr(self, name), 0, 1)
        low, high = self.scale
        if not 0 < low <= high <= LARGEST_SCALE:
            raise UserError(
                f"`augment.scale` must rise from above 0, up to {LARGEST_SCALE}, got [{low}, {high}]"
            )


class TrainTransform:
    """Crops an image at random, at a random scale, mirrors it and changes its colours.

    Args:
        augment: what may happen.
        crop_size: side of the crop in pixels.
        short_side: of the image before scaling, in pixels; None for its own.
    """

    def __init__(self, augment: Augment, crop_size: int, short_side: int | None) -> None:
        self.augment, self.crop_size, self.short_side = augment, crop_size, short_side
        self.flips_and_colours = v2.Compose(
            [
                v2.RandomHorizontalFlip(augment.hflip),
                v2.RandomVerticalFlip(augment.vflip),
                v2.RandomPhotometricDistort(p=augment.photometric),
            ]
        )

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Change an image ``(3, height, width)`` and its labels ``(height, width)``, both 8-bit."""
        low, high = self.augment.scale
        factor = low + (high - low) * float(torch.rand(()))
        height, width = (max(1, round(factor * side)) for side in fitted(image.shape[-2:], self.short_side))
        image, labels = resize(image, (height, width)), resize_labels(labels, (height, width))
        image, labels = pad(image, labels, self.crop_size)
        place = self.place(labels)
        image, labels = (functional.crop_image(x, *place) for x in (image, labels))
        if torch.rand(()) < self.augment.transpose:
            image, labels = image.transpose(-2, -1), labels.transpose(-2, -1)
        image, labels = self.flips_and_colours(tv_tensors.Image(image), tv_tensors.Mask(labels))
        return image.as_subclass(Tensor), labels.as_subclass(Tensor)

    def place(self, labels: Tensor) -> tuple[int, int, int, int]:
        """Draw top, left, height and width of a crop that is not too much of one class."""
        side = self.crop_size
        room = [length - side for length in labels.shape]
        for _ in range(ATTEMPTS):
            top, left = (int(torch.randint(0, free + 1, ())) for free in room)
            counts = torch.bincount(labels[top : top + side, left : left + side].flatten(), minlength=256)
            labelled = counts[:IGNORED]
            if labelled.max() <= self.augment.max_class_share * labelled.sum() > 0:
                break
        return top, left, side, side


def fitted(size: torch.Size | tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """Height and width of an image resized to a short side, or less where its long side would be too long."""
    height, width = size
    if short_side is None:
        return height, width
    factor = min(short_side / min(height, width), LONGEST * short_side / max(height, width))
    return max(1, round(factor * height)), max(1, round(factor * width))


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an image, smoothed where it shrinks."""
    return functional.resize_image(image, list(size), antialias=True)


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a label map: each position gets the label of the pixel that contains it."""
    nearest = v2.InterpolationMode.NEAREST_EXACT
    return functional.resize_image(labels[None], list(size), interpolation=nearest)[0]


def pad(image: Tensor, labels: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Extend an image and its labels below and on the right to a side at least."""
    height, width = labels.shape
    below, right = max(0, side - height), max(0, side - width)
    if not below and not right:
        return image, labels
    wider = torch.tensor(OUTSIDE, dtype=image.dtype)[:, None, None].repeat(1, height + below, width + right)
    wider[:, :height, :width] = image
    return wider, torch.nn.functional.pad(labels, (0, right, 0, below), value=IGNORED)
