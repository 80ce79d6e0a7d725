# SPDX-License-Identifier: Apache-2.0
"""Random changes of images together with their boxes and masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from slideformer.errors import UserError, check_range

# How many times longer the longer side may be before a crop than after it: thin images would fill the memory.
THIN = 10


@dataclass(frozen=True)
class Augment:
    """Random changes of training images: DETR's and Swin's recipe, in pixels.

    Attributes:
        sides: lengths for the shorter side, of which each image gets a random one.
        longest_side: what the longer side may not exceed; it makes the shorter one shorter.
        crop_probability: how often an image is resized by ``crop_sides`` and cropped before it is resized.
        crop_sides: lengths for the shorter side before a crop.
        crop: sides of the random crop, from and to.
        hflip: probability of a mirror image, left to right.
        vflip: probability of a mirror image, top to bottom.
        color_jitter: strength of random brightness, contrast and saturation; 0 for none.
        repeats: how often one image comes in a batch, differently changed; the epoch stays as long, of
            fewer images. 0 for once.
    """

    sides: tuple[int, ...] = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    longest_side: int = 1333
    crop_probability: float = 0.5
    crop_sides: tuple[int, ...] = (400, 500, 600)
    crop: tuple[int, int] = (384, 600)
    hflip: float = 0.5
    vflip: float = 0.0
    color_jitter: float = 0.0
    repeats: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("hflip", "vflip", "crop_probability"):
            check_range(f"`augment.{name}`", getattr(self, name), 0, 1)
        for name in ("color_jitter", "repeats"):
            check_range(f"`augment.{name}`", getattr(self, name), 0)
        for name in ("sides", "crop_sides"):
            sides = getattr(self, name)
            if not sides or min(sides) < 1:
                raise UserError(f"`augment.{name}` must be one length or more, in pixels, got {list(sides)}")
        check_range("`augment.longest_side`", self.longest_side, max(self.sides))
        low, high = self.crop
        if not 1 <= low <= high:
            raise UserError(f"`augment.crop` must rise from 1 or more, got [{low}, {high}]")


class RandomCropOfRandomSize(v2.Transform):
    """Cut out a random rectangle.

    Args:
        smallest: smallest side, in pixels, or the image's where that is smaller.
        largest: largest side, in pixels.
    """

    def __init__(self, smallest: int, largest: int) -> None:
        super().__init__()
        self.smallest, self.largest = smallest, largest

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw size and place."""
        height, width = v2.query_size(flat_inputs)
        rows, columns = (self.draw_side(side) for side in (height, width))
        return {
            "top": draw(0, height - rows),
            "left": draw(0, width - columns),
            "height": rows,
            "width": columns,
        }

    def draw_side(self, side: int) -> int:
        """A length between the bounds and within an image's side."""
        return draw(min(self.smallest, side), min(self.largest, side))

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Cut it out of the image, its boxes or its masks."""
        return self._call_kernel(v2.functional.crop, inpt, **params)


class ShortestSize(v2.RandomShortestSize):
    """Torchvision's random size of the shorter side, which leaves a long, thin image at least one pixel."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw a size."""
        params: dict[str, Any] = super().make_params(flat_inputs)
        return {"size": tuple(max(1, side) for side in params["size"])}


def draw(low: int, high: int) -> int:
    """Draw a random integer, both bounds included, from the generator that the loader seeds."""
    return int(torch.randint(low, high + 1, ()))


def train_transform(augment: Augment) -> v2.Transform:
    """Random mirror image, size, crop and colours; objects that a crop cut away are removed.

    Takes and gives an image and a dict with ``boxes``, ``labels`` and, if there are, ``masks``.
    """
    resize = ShortestSize(list(augment.sides), max_size=augment.longest_side)
    enlarge = ShortestSize(list(augment.crop_sides), max_size=THIN * augment.longest_side)
    crop = v2.Compose([enlarge, RandomCropOfRandomSize(*augment.crop), resize])
    share = augment.crop_probability
    strength = augment.color_jitter
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(augment.hflip),
            v2.RandomVerticalFlip(augment.vflip),
            v2.RandomChoice([resize, crop], p=[1 - share, share]),
            v2.ColorJitter(strength, strength, strength),
            v2.ToDtype(torch.float32, scale=True),
            v2.ClampBoundingBoxes(),
            v2.SanitizeBoundingBoxes(labels_getter=lambda inputs: inputs[1]["labels"]),
        ]
    )


def eval_transform() -> v2.Transform:
    """Values from 0 to 1; the detector resizes and normalises."""
    return v2.Compose([v2.ToDtype(torch.float32, scale=True)])


def without_empty_masks(target: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the objects of which a crop or a smaller size left a box, but no pixel of the mask."""
    if "masks" not in target:
        return target
    keep = (target["masks"] != 0).flatten(1).any(1)
    rows = ("boxes", "labels", "masks")
    return {name: value[keep] if name in rows else value for name, value in target.items()}
