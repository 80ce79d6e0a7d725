# SPDX-License-Identifier: Apache-2.0
"""Finding and reading pictures: any kind a folder may hold, as 8-bit RGB, and telling the unreadable ones."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageOps

from slideformer.errors import UserError

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


def image_paths(folder: Path) -> Iterator[str]:
    """Images anywhere below a folder, in the order of their names; hidden files and folders are none."""
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link back to where we have been
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield os.path.join(place, name)


def refuse_no_folder(what: str, path: Path) -> None:
    """Refuse a path that is no folder.

    Raises:
        UserError: it does not exist, or is a file.
    """
    if not path.is_dir():
        found = "which is a file; give the folder around it" if path.exists() else "which does not exist"
        raise UserError(f"{what} must be a folder, got {path}, {found}; check the path")


def find_images(patterns: Iterable[str]) -> list[Path]:
    """The pictures that files, folders (with all below them) and globs name, in order, each once.

    Raises:
        UserError: one of them names nothing.
    """
    found: list[Path] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            below = [Path(file) for file in image_paths(path)]
        elif path.is_file():
            below = [path]
        else:
            below = sorted(
                Path(match) for match in glob.glob(pattern, recursive=True) if Path(match).is_file()
            )
        if not below:
            raise UserError(
                f"{pattern} must be a picture, a folder of pictures or a glob, but names none; check it"
            )
        found.extend(below)
    return list(dict.fromkeys(found))
