# SPDX-License-Identifier: Apache-2.0
"""How a picture becomes a classifier's input, as files say it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slideformer_runtime.fields import integer, many, number, optional, word

# A side of the input, and of the resized picture that it is cut from, in pixels.
LONGEST_INPUT, LONGEST_RESIZED = 4096, 8192
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
CROP_MODES = ("center", "squash", "border")
PREPROCESSING = {
    "input_size": many(integer(1, LONGEST_INPUT), 3, 3),
    "mean": many(number(0, 1), 3, 3),
    "std": many(number(1e-6, 1e6), 3, 3),
    "crop_pct": number(0.05, 20),
}
PREPROCESSING_TEXTS = {
    "interpolation": word(*INTERPOLATIONS),
    "crop_mode": optional(word(*CROP_MODES), "center"),
}


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a classifier's input, by timm's names.

    Attributes:
        input_size: channels, height and width.
        mean: of each channel, subtracted from pixels in [0, 1].
        std: of each channel, by which pixels are then divided.
        interpolation: timm's word for how pictures are resized.
        crop_pct: share of the resized picture's side that the crop keeps.
        crop_mode: timm's word for how the crop is taken.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str = "center"


def preprocessing_of(told: Mapping[str, Any]) -> Preprocessing:
    """The record from values that were checked one by one.

    Raises:
        ValueError: they do not fit together.
    """
    channels, height, width = told["input_size"]
    how = Preprocessing(
        input_size=(channels, height, width),
        mean=tuple(map(float, told["mean"])),
        std=tuple(map(float, told["std"])),
        interpolation=told["interpolation"],
        crop_pct=float(told["crop_pct"]),
        crop_mode=told["crop_mode"],
    )
    resized = [math.floor(side / how.crop_pct) for side in (height, width)]
    if channels != 3 or not all(1 <= side <= LONGEST_RESIZED for side in resized):
        raise ValueError(
            f"input_size must be 3 channels and sides that are 1 to {LONGEST_RESIZED} when divided by "
            f"crop_pct, got {how.input_size} and {how.crop_pct}"
        )
    return how
