# SPDX-License-Identifier: Apache-2.0
"""Reading pictures: any kind a folder may hold, as 8-bit RGB, and telling the unreadable ones."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

# What PIL raises for bytes that are no picture, a truncated or an oversized one.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)

OnBadImage = Literal["skip", "stop"]


def read_image(file: str | Path | BinaryIO | bytes) -> Image.Image:
    """Read a picture as RGB of 8 bits, upright as its camera meant it.

    Grey, palette and 16-bit pictures are converted, transparency is dropped, of an animation the first
    frame is taken.

    Raises:
        OSError, SyntaxError, ValueError, EOFError: one of `UNREADABLE`, the bytes are no whole picture.
    """
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # 16 bits of grey: PIL would clip, not scale
            grey = np.asarray(upright, dtype=np.float64) / 257
            upright = Image.fromarray(grey.clip(0, 255).round().astype(np.uint8))
        if "transparency" in upright.info:  # of a palette: PIL wants to be told that it is dropped
            upright = upright.convert("RGBA")
        return upright.convert("RGB")


def is_readable(file: str | Path) -> bool:
    """Whether the bytes are a whole picture."""
    try:
        read_image(file)
    except UNREADABLE:
        return False
    return True


def refusal(path: str, error: BaseException) -> str:
    """What is said of one unreadable picture where the user asked to stop."""
    return (
        f"an image must be a whole picture, got {path} ({type(error).__name__}: {error}); "
        "mend or remove it, or pass --on-bad-image skip (in training --data.on_bad_image skip)"
    )
