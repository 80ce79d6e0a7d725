# SPDX-License-Identifier: Apache-2.0
"""Many pictures as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from slideformer.errors import UserError
from slideformer.files import whole

COLUMNS, SIDE, GAP = 4, 320, 8


def picture_grid(files: Sequence[str | Path], out: str | Path) -> Path:
    """Put pictures beside and below each other as PNG, each made to fit a square.

    Args:
        files: of the pictures, in the order of reading.
        out: the file.

    Raises:
        UserError: there is no picture.
    """
    if not files:
        raise UserError("there must be a picture to show, got none")
    shown = [thumbnail(file) for file in files]
    columns = min(COLUMNS, len(shown))
    rows = [shown[start : start + columns] for start in range(0, len(shown), columns)]
    heights = [max(picture.height for picture in row) for row in rows]
    size = (columns * (SIDE + GAP) - GAP, sum(heights) + GAP * (len(rows) - 1))
    grid = Image.new("RGB", size, "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            grid.paste(picture, (column * (SIDE + GAP) + (SIDE - picture.width) // 2, top))
        top += height + GAP
    with whole(out) as unfinished:
        grid.save(unfinished, format="png")
    return Path(out)


def thumbnail(file: str | Path) -> Image.Image:
    """A picture that fits a square, RGB."""
    with Image.open(file) as picture:
        shown = picture.convert("RGB")
    shown.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return shown
