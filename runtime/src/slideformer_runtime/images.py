# SPDX-License-Identifier: Apache-2.0
"""Finding and reading images, of any kind that a folder may contain."""

from __future__ import annotations

import glob
import io
import os
import stat
import warnings
import zlib
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, TypeAlias

from PIL import Image

from slideformer_runtime.errors import UserError
from slideformer_runtime.pixels import upright_rgb
from slideformer_runtime.walk import files_below

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# The bytes that a PNG begins with.
PNG = b"\x89PNG\r\n\x1a\n"
# A path, the bytes of a file, an open file, or an image of Pillow.
Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Image.Image

# Pillow's warnings, such as for odd metadata, do not concern the pixels. Filters belong to the process: set
# once, since one for each image would race between threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnreadableImageError(UserError):
    """An image that cannot be read, or whose brightness its file does not define.

    Args:
        reason: what is wrong with it.
        file: its path, where it has one.
    """

    def __init__(self, reason: str, file: str = "") -> None:
        super().__init__(f"{file}: {reason}" if file else reason)
        self.reason = reason


def read_image(source: Source) -> Image.Image:
    """Read an image as upright RGB of 8 bits: the same pixels that slideformer trains on.

    Grey, palette, CMYK and 16-bit images are converted; floating-point ones must be from 0, black, to 1,
    white; transparency is dropped; of an animation the first frame is taken.

    Args:
        source: path, bytes, open file or image of Pillow.

    Raises:
        UnreadableImageError: it is not a complete image, or its file does not define its brightness.
    """
    try:
        if isinstance(source, Image.Image):
            return upright_rgb(source)
        if isinstance(source, str | os.PathLike):
            check_regular(source)
        with open_image(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return upright_rgb(image)
    except UserError as error:  # names its file already
        raise UnreadableImageError(str(error)) from error
    # Decoders raise whatever some bytes lead them to, TypeError, struct.error and MemoryError among it.
    except Exception as error:
        path = str(source) if isinstance(source, str | os.PathLike) else ""
        raise UnreadableImageError(f"{type(error).__name__}: {error}", path) from error


def open_image(file: str | os.PathLike[str] | BinaryIO) -> Image.Image:
    """Open an image; a PNG whose metadata are broken is opened without them, as viewers do."""
    try:
        return Image.open(file)
    except (OSError, ValueError):
        with open(file, "rb") if isinstance(file, str | os.PathLike) else nullcontext(file) as source:
            source.seek(0)
            if source.read(len(PNG)) != PNG:
                raise
            return Image.open(io.BytesIO(PNG + pixel_chunks(source.read())))


def pixel_chunks(chunks: bytes) -> bytes:
    """Return the chunks of a PNG that its pixels need, and that of EXIF where it is intact."""
    kept, start = b"", 0
    while start < len(chunks):
        end = start + 12 + int.from_bytes(chunks[start : start + 4], "big")
        kind, checked = chunks[start + 4 : start + 8], chunks[start + 4 : end - 4]
        intact = zlib.crc32(checked).to_bytes(4, "big") == chunks[end - 4 : end]
        if kind[:1].isupper() or (kind == b"eXIf" and intact):
            kept += chunks[start:end]
        start = end
    return kept


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise a UserError for a FIFO, socket or device, which would block whoever opens it, or a folder."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise UserError(f"{os.fspath(path)!r} must be a regular file; replace it or give another path")


def find_images(patterns: Iterable[str]) -> list[str]:
    """Find the images that files, folders (searched at any depth) and globs name, in order, each once."""
    found: list[str] = []
    for pattern in patterns:
        if os.path.isdir(pattern):
            paths = [path for path in files_below(pattern) if path.lower().endswith(SUFFIXES)]
        elif os.path.exists(pattern):
            check_regular(pattern)
            paths = [pattern]
        else:
            paths = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
        if not paths:
            raise UserError(
                f"{pattern} must be an image, a folder of images or a glob, but names none; check it"
            )
        found.extend(str(Path(path)) for path in paths)
    return list(dict.fromkeys(found))
