# SPDX-License-Identifier: Apache-2.0
"""From an image to a classifier's input: timm's transforms for evaluation, without PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from slideformer_runtime.fields import integer, many, number, optional, read_fields, word

# A side of the input, and of the resized image that it is cut from, in pixels.
MAX_INPUT, MAX_RESIZED = 4096, 8192
# Above so many pixels only the middle of a long and thin image is resized, with this margin around the crop.
MANY_PIXELS, MARGIN = 2**26, 2
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}


def shorter_side(height: int, width: int, target: tuple[int, int]) -> tuple[int, int]:
    """Return the size that covers the target, in the image's own proportions.

    For a square target the longer side is truncated, as in torchvision; else both are rounded, as in timm.
    """
    if target[0] == target[1]:
        short, long = min(height, width), max(height, width)
        other = int(target[0] * long / short)
        return (other, target[0]) if width <= height else (target[0], other)
    ratio = min(height / target[0], width / target[1])
    return round(height / ratio), round(width / ratio)


def longer_side(height: int, width: int, target: tuple[int, int]) -> tuple[int, int]:
    """Return the size that fits into the target, in the image's own proportions, at least one pixel."""
    ratio = max(height / target[0], width / target[1])
    return max(1, round(height / ratio)), max(1, round(width / ratio))


def squashed(height: int, width: int, target: tuple[int, int]) -> tuple[int, int]:
    """Return the target, whatever the image's proportions."""
    return target


# From an image's height and width to those that it is resized to, by timm's name of the crop.
CROP_MODES = {"center": shorter_side, "squash": squashed, "border": longer_side}
FIELDS = {
    "input_size": many(integer(1, MAX_INPUT), 3, 3),
    "mean": many(number(0, 1), 3, 3),
    "std": many(number(1e-6, 1e6), 3, 3),
    "crop_pct": number(0.05, 20),
    "interpolation": word(*INTERPOLATIONS),
    "crop_mode": optional(word(*CROP_MODES), "center"),
}


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a classifier's input, by timm's names.

    Attributes:
        input_size: channels, height and width.
        mean: of each channel, subtracted from pixels in [0, 1].
        std: of each channel, by which pixels are then divided.
        interpolation: a name in `INTERPOLATIONS`.
        crop_pct: share of the resized image's side that the crop keeps.
        crop_mode: a name in `CROP_MODES`.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str = "center"

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width to resize to before the crop, which the crop mode adapts to the image."""
        _, height, width = self.input_size
        return math.floor(height / self.crop_pct), math.floor(width / self.crop_pct)


def read_preprocessing(texts: Mapping[str, str]) -> Preprocessing:
    """Read and check the preprocessing in a file's metadata.

    Raises:
        KeyError: a value is absent.
        ValueError: a value is out of its range, or two do not fit together.
    """
    how = Preprocessing(**read_fields(texts, FIELDS))
    if how.input_size[0] != 3 or not all(1 <= side <= MAX_RESIZED for side in how.resized):
        raise ValueError(
            f"input_size must be 3 channels and sides that are 1 to {MAX_RESIZED} when divided by "
            f"crop_pct, got {how.input_size} and {how.crop_pct}"
        )
    return how


def prepare(image: Image.Image, how: Preprocessing) -> NDArray[np.float32]:
    """Resize, crop and normalise an 8-bit RGB image of any size: ``(3, height, width)``."""
    height, width = how.input_size[1:]
    if how.crop_mode == "center":
        image = middle_of_thin(image, how.resized, (height, width))
    rows, columns = CROP_MODES[how.crop_mode](image.height, image.width, how.resized)
    resized = image.resize((columns, rows), INTERPOLATIONS[how.interpolation])
    fill = tuple(round(255 * x) for x in how.mean) if how.crop_mode == "border" else (0, 0, 0)
    pixels = unit_pixels(centre_crop(resized, height, width, fill))
    mean, std = (np.array(x, dtype=np.float32)[:, None, None] for x in (how.mean, how.std))
    return (pixels - mean) / std


def middle_of_thin(image: Image.Image, target: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    """Return the image, or of a long and thin one the middle, which is all that the crop shows.

    Args:
        image: of any proportions.
        target: height and width that it is to cover.
        size: height and width of the crop.
    """
    scale = max(target[1] / image.width, target[0] / image.height)
    if image.width * image.height * scale**2 <= MANY_PIXELS:
        return image
    seen = (max(target[1], size[1]), max(target[0], size[0]))
    left, top = (
        max(0, side - math.ceil(part / scale) - MARGIN) // 2
        for side, part in zip(image.size, seen, strict=True)
    )
    return image.crop((left, top, image.width - left, image.height - top))


def centre_crop(image: Image.Image, height: int, width: int, fill: tuple[int, ...]) -> Image.Image:
    """Return the middle of an image, with a border where the image is too small."""
    down, across = max(height - image.height, 0), max(width - image.width, 0)
    if down or across:
        border = (across // 2, down // 2, (across + 1) // 2, (down + 1) // 2)
        image = ImageOps.expand(image, border, fill)
    # Half a pixel goes to the even side, by Python's rounding, as in torchvision.
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))


def unit_pixels(image: Image.Image) -> NDArray[np.float32]:
    """Return the pixels of an image from 0 to 1: ``(3, height, width)``."""
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
