# SPDX-License-Identifier: Apache-2.0
"""From a picture to a model's input: timm's transforms for evaluation, without PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from slideformer_runtime.errors import UserError
from slideformer_runtime.preprocessing import Preprocessing

T = TypeVar("T")
# Pixels of a resized picture from which on only the middle of a long and thin one is resized.
MANY_PIXELS = 2**26
# Pixels of a long and thin picture that are kept besides those that the crop shows.
MARGIN = 2
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}


def prepared(picture: Image.Image, how: Preprocessing) -> NDArray[np.float32]:
    """The input of a classifier: ``(3, height, width)``, resized, cropped and normalised.

    Args:
        picture: 8-bit RGB of any size.
        how: what the file says.

    Raises:
        UserError: the file asks for an interpolation or a crop that is not known here.
    """
    height, width = how.input_size[1:]
    resampling = known(INTERPOLATIONS, "interpolation", how.interpolation)
    target = (math.floor(height / how.crop_pct), math.floor(width / how.crop_pct))
    if how.crop_mode == "center":
        picture = shortened(picture, target, (height, width))
    rows, columns = known(RESIZED, "crop_mode", how.crop_mode)(picture.height, picture.width, target)
    resized = picture.resize((columns, rows), resampling)
    fill = tuple(round(255 * x) for x in how.mean) if how.crop_mode == "border" else (0, 0, 0)
    pixels = unit_pixels(centre_crop(resized, height, width, fill))
    mean, std = (np.array(x, dtype=np.float32)[:, None, None] for x in (how.mean, how.std))
    return (pixels - mean) / std


def shortened(picture: Image.Image, target: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    """The picture itself, or of a long and thin one the middle, which is all that the crop shows.

    Args:
        picture: of any proportions.
        target: height and width that it is to cover.
        size: height and width of the crop.
    """
    scale = max(target[1] / picture.width, target[0] / picture.height)
    if picture.width * picture.height * scale**2 <= MANY_PIXELS:
        return picture
    seen = (max(target[1], size[1]), max(target[0], size[0]))
    cut = [
        max(0, side - math.ceil(part / scale) - MARGIN) // 2
        for side, part in zip(picture.size, seen, strict=True)
    ]
    return picture.crop((cut[0], cut[1], picture.width - cut[0], picture.height - cut[1]))


def unit_pixels(picture: Image.Image) -> NDArray[np.float32]:
    """The pixels of a picture from 0 to 1: ``(3, height, width)``."""
    pixels = np.asarray(picture, dtype=np.float32) / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def shorter_side(height: int, width: int, target: tuple[int, int]) -> tuple[int, int]:
    """The size that covers the target, in the picture's own proportions.

    A square target is reached by the shorter side and the other side is cut to whole pixels, as torchvision
    has it; any other is rounded, as timm has it.
    """
    if target[0] == target[1]:
        short, long = min(height, width), max(height, width)
        other = int(target[0] * long / short)
        return (other, target[0]) if width <= height else (target[0], other)
    ratio = min(height / target[0], width / target[1])
    return round(height / ratio), round(width / ratio)


def longer_side(height: int, width: int, target: tuple[int, int]) -> tuple[int, int]:
    """The size that fits into the target, in the picture's own proportions, a pixel at least."""
    ratio = max(height / target[0], width / target[1])
    return max(1, round(height / ratio)), max(1, round(width / ratio))


def squashed(height: int, width: int, target: tuple[int, int]) -> tuple[int, int]:
    """The target itself, whatever the picture's proportions."""
    return target


# By timm's word for the crop: height and width to resize to.
RESIZED: dict[str, Callable[[int, int, tuple[int, int]], tuple[int, int]]] = {
    "center": shorter_side,
    "squash": squashed,
    "border": longer_side,
}


def centre_crop(picture: Image.Image, height: int, width: int, fill: tuple[int, ...]) -> Image.Image:
    """The middle of a picture, widened by a border where the picture is too small."""
    down, across = max(height - picture.height, 0), max(width - picture.width, 0)
    if down or across:
        border = (across // 2, down // 2, (across + 1) // 2, (down + 1) // 2)
        picture = ImageOps.expand(picture, border, fill)
    # Half a pixel goes to the even side, by Python's rounding, as in torchvision.
    top, left = round((picture.height - height) / 2), round((picture.width - width) / 2)
    return picture.crop((left, top, left + width, top + height))


def known(table: dict[str, T], what: str, word: str) -> T:
    """The entry of a table.

    Raises:
        UserError: there is none of that name.
    """
    if word not in table:
        raise UserError(f"{what} must be one of {', '.join(table)}, got {word} in the file; export it again")
    return table[word]
