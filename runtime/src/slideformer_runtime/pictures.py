# SPDX-License-Identifier: Apache-2.0
"""Finding and reading pictures: any kind a folder may hold, as 8-bit RGB, upright."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from slideformer_runtime.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

# What PIL raises for bytes that are no picture, a truncated or an oversized one.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)

# A path, the bytes of a file, an open file, or a picture that is read already.
Source: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | Image.Image"


def read_picture(source: Source) -> Image.Image:
    """Read a picture as RGB of 8 bits, turned as its camera meant it.

    Grey, palette and 16-bit pictures are converted, transparency is dropped, of an animation the first frame
    is taken: the same pixels that slideformer trains on.

    Args:
        source: path, bytes, open file or picture.

    Raises:
        OSError, SyntaxError, ValueError, EOFError: one of `UNREADABLE`, the bytes are no whole picture.
    """
    if isinstance(source, Image.Image):
        return converted(source)
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        image.load()
        return converted(image)


def converted(image: Image.Image) -> Image.Image:
    """A picture as upright RGB of 8 bits."""
    turned: Image.Image = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I"):  # 16 bits of grey: PIL would clip, not scale
        grey = np.asarray(turned, dtype=np.float64) / 257
        turned = Image.fromarray(grey.clip(0, 255).round().astype(np.uint8))
    if "transparency" in turned.info:  # of a palette: PIL wants to be told that it is dropped
        turned = turned.convert("RGBA")
    return turned.convert("RGB")


def find_pictures(patterns: Iterable[str]) -> list[str]:
    """The pictures that files, folders (with all below them) and globs name, in order, each once.

    Raises:
        UserError: one of them names nothing.
    """
    found: list[str] = []
    for pattern in patterns:
        if os.path.isdir(pattern):
            below = list(pictures_below(pattern))
        elif os.path.isfile(pattern):
            below = [pattern]
        else:
            below = sorted(name for name in glob.glob(pattern, recursive=True) if os.path.isfile(name))
        if not below:
            raise UserError(
                f"{pattern} must be a picture, a folder of pictures or a glob, but names none; check it"
            )
        found.extend(str(Path(name)) for name in below)
    return list(dict.fromkeys(found))


def pictures_below(folder: str) -> Iterator[str]:
    """Pictures anywhere below a folder, in the order of their names; hidden files and folders are none."""
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
