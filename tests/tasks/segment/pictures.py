# SPDX-License-Identifier: Apache-2.0
"""Small sets of pictures with label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NAMES = ("ground", "square", "bar")
COLOURS = np.array([(90, 110, 90), (220, 60, 50), (40, 80, 210)])


def labels(random: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A square and a bar on the ground."""
    height, width = size
    found = np.zeros(size, np.uint8)
    top, left = random.integers(0, height // 2), random.integers(0, width // 2)
    found[top : top + height // 2, left : left + width // 3] = 1
    row = random.integers(0, height - 6)
    found[row : row + 6] = 2
    return found


def picture(classes: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Classes in their colours, with noise."""
    return np.clip(random.normal(COLOURS[classes], 20), 0, 255).astype(np.uint8)


def write_set(root: Path, train: int = 6, val: int = 2, size: tuple[int, int] = (40, 48)) -> Path:
    """A set in the layout of the generated scenes."""
    for number, (split, count) in enumerate({"train": train, "val": val}.items()):
        for folder in (root / split, root / "masks" / split):
            folder.mkdir(parents=True)
        for index in range(count):
            random = np.random.default_rng((number, index))
            classes = labels(random, size)
            Image.fromarray(picture(classes, random)).save(root / split / f"{index}.jpg", quality=95)
            Image.fromarray(classes).save(root / "masks" / split / f"{index}.png")
    (root / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return root
