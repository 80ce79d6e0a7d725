# SPDX-License-Identifier: Apache-2.0
"""How an image becomes a model's input: one record from training to whatever runs the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

import torch
from PIL import Image
from timm.data import create_transform
from timm.data.transforms import str_to_pil_interp
from torch import Tensor

from slideformer.dense.detector_options import LONGEST_RESIZED
from slideformer.errors import UserError
from slideformer.runs.fields import Field, check_fields, integer, many, number, optional, word

# A side of the input, in pixels.
LONGEST_INPUT = 4096
CHANNELS = 1024
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
CROP_MODES = ("center", "squash", "border")
FIELDS: dict[str, Field] = {
    "input_size": many(integer(1, LONGEST_INPUT), 3, 3),
    "mean": many(number(0, 1), 1, CHANNELS),
    "std": many(number(1e-6, 1e6), 1, CHANNELS),
    "interpolation": word(*INTERPOLATIONS),
    "crop_pct": number(0.05, 20),
    "crop_mode": optional(word(*CROP_MODES), "center"),
}
# Pixels of a resized image from which on only the middle of a long and thin one is resized.
MANY_PIXELS = 2**26
# Pixels of a long and thin image that are kept besides those that the crop shows.
MARGIN = 2


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes the model's input, by the names that timm's ``create_transform`` takes.

    Attributes:
        input_size: channels, height and width of the images that the model was made for.
        mean: of each channel, subtracted from pixels in [0, 1].
        std: of each channel, by which pixels are then divided.
        interpolation: timm's word for how images are resized.
        crop_pct: share of the resized image's side that the crop keeps.
        crop_mode: timm's word for how the crop is taken: ``center`` of the shorter side, ``squash`` to the
            input's proportions, or ``border`` around the whole image.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str = "center"

    def values(self) -> dict[str, Any]:
        """All of it by name."""
        return {name: getattr(self, name) for name in PREPROCESSING}

    def for_size(self, size: tuple[int, int]) -> Preprocessing:
        """The same for an input of another height and width.

        Raises:
            UserError: the size is out of range.
        """
        values = {**self.values(), "input_size": (self.input_size[0], *size)}
        return read_preprocessing(values, "the model's preprocessing")


PREPROCESSING = tuple(entry.name for entry in fields(Preprocessing))


def read_preprocessing(content: Mapping[str, Any], source: object) -> Preprocessing:
    """The record from what a file or timm says, which may say more.

    Args:
        content: values by name.
        source: where they are from, for errors.

    Raises:
        UserError: one is absent or out of its range, or they do not fit together.
    """
    values = check_fields(content, FIELDS, source)
    for name in ("mean", "std"):
        values[name] = tuple(map(float, values[name]))
    how = Preprocessing(**{**values, "input_size": tuple(values["input_size"])})
    channels, *sides = how.input_size
    for name in ("mean", "std"):
        count = len(getattr(how, name))
        if count != channels:
            raise UserError(
                f"{name} in {source} must have a number for each of {channels} channels, got {count}; "
                "correct it, or train or export it again"
            )
    resized = [math.floor(side / how.crop_pct) for side in sides]
    if not all(1 <= side <= LONGEST_RESIZED for side in resized):
        raise UserError(
            f"the sides of input_size in {source} must be 1 to {LONGEST_RESIZED} when divided by crop_pct, "
            f"got {' and '.join(map(str, resized))}; correct them, or train or export it again"
        )
    return how


class PixelTransform:
    """Timm's transform for evaluation, up to 8-bit pixels, for images of any proportions.

    Args:
        how: what it does.

    Raises:
        UserError: the model takes other images than RGB.
    """

    def __init__(self, how: Preprocessing) -> None:
        if how.input_size[0] != 3:
            raise UserError(
                f"images are RGB, but the model takes {how.input_size[0]} channels; give one that takes 3"
            )
        self.how = how
        self.transform = create_transform(**how.values(), is_training=False, normalize=False)

    def __call__(self, image: Image.Image) -> Tensor:
        """The pixels of one image that the model sees, ``(3, height, width)``, uint8."""
        return cast("Tensor", self.transform(shortened(image, self.how)))


class Normalise:
    """Timm's normalisation of 8-bit pixels.

    Args:
        how: whose mean and std are taken.
        device: of the pixels.
    """

    def __init__(self, how: Preprocessing, device: torch.device | None = None) -> None:
        self.mean, self.std = (torch.tensor(x, device=device)[:, None, None] for x in (how.mean, how.std))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Inputs ``(..., 3, height, width)``, float32, of pixels of that shape, uint8."""
        return pixels.float().div_(255).sub_(self.mean).div_(self.std)


class EvalTransform:
    """Timm's transform for evaluation, for images of any proportions: `PixelTransform`, then `Normalise`.

    Args:
        how: what it does.

    Raises:
        UserError: the model takes other images than RGB.
    """

    def __init__(self, how: Preprocessing) -> None:
        self.pixels, self.normalise = PixelTransform(how), Normalise(how)

    def __call__(self, image: Image.Image) -> Tensor:
        """The input of one image, ``(3, height, width)``."""
        return self.normalise(self.pixels(image))


def shortened(image: Image.Image, how: Preprocessing) -> Image.Image:
    """The image itself, unless it is so long and thin that timm cannot resize it.

    Of the centre's mode the middle is kept, which is all that the crop shows. A border's mode would leave a
    thin image no pixel: it gets one.
    """
    width, height = image.size
    across, down = (math.floor(side / how.crop_pct) for side in (how.input_size[2], how.input_size[1]))
    if how.crop_mode == "center":
        scale = max(across / width, down / height)
        if width * height * scale**2 <= MANY_PIXELS:
            return image
        seen = (max(across, how.input_size[2]), max(down, how.input_size[1]))
        cut = [
            max(0, side - math.ceil(part / scale) - MARGIN) // 2
            for side, part in zip(image.size, seen, strict=True)
        ]
        return image.crop((cut[0], cut[1], width - cut[0], height - cut[1]))
    ratio = max(width / across, height / down)
    size = (round(width / ratio), round(height / ratio))
    if how.crop_mode == "border" and min(size) == 0:
        return image.resize((max(1, size[0]), max(1, size[1])), str_to_pil_interp(how.interpolation))
    return image
