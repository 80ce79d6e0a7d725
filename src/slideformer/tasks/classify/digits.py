# SPDX-License-Identifier: Apache-2.0
"""The embedded data set: the 1,797 real handwritten digits that scikit-learn ships (UCI, 1998)."""

from __future__ import annotations

import numpy as np
from PIL import Image

from slideformer.errors import UserError

CLASS_NAMES = [str(digit) for digit in range(10)]
HOLD_OUT = 0.2
SEED = 0


def load(split: str) -> tuple[list[Image.Image], list[int]]:
    """Images of 32 x 32 pixels, enlarged from 8 x 8, and their classes.

    Args:
        split: ``"train"``, or ``"val"``: a stratified fifth that training never sees, always the same.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise UserError(
            "the digits need scikit-learn, which is not installed; pip install 'slideformer[train]'"
        ) from error
    data = load_digits()
    places = np.arange(len(data.target))
    train, val = train_test_split(places, test_size=HOLD_OUT, random_state=SEED, stratify=data.target)
    chosen = {"train": train, "val": val}[split]
    grey = (data.images * (255 / 16)).round().astype(np.uint8)
    images = [
        Image.fromarray(grey[i]).resize((32, 32), Image.Resampling.BICUBIC).convert("RGB") for i in chosen
    ]
    return images, data.target[chosen].tolist()


class DigitsReader:
    """The digits of a split by number.

    Args:
        split: ``"train"`` or ``"val"``.
    """

    def __init__(self, split: str) -> None:
        self.images, self.targets = load(split)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Return one image and its class number."""
        return self.images[index], self.targets[index]

    def name(self, index: int) -> str:
        """Return what to call one image."""
        return f"digit {index}"
