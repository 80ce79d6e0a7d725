# SPDX-License-Identifier: Apache-2.0
"""Many pictures as one."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
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
    columns = min(COLUMNS, len(files))
    step = SIDE + GAP
    grid = Image.new("RGB", (columns * step - GAP, ceil(len(files) / columns) * step - GAP), "white")
    for number, file in enumerate(files):
        with Image.open(file) as picture:
            shown = picture.convert("RGB")
        shown.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        row, column = divmod(number, columns)
        grid.paste(
            shown, (column * step + (SIDE - shown.width) // 2, row * step + (SIDE - shown.height) // 2)
        )
    with whole(out) as unfinished:
        grid.save(unfinished, format="png")
    return Path(out)
