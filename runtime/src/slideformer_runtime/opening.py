# SPDX-License-Identifier: Apache-2.0
"""Opening pictures: regular files alone, and whatever their metadata are like."""

from __future__ import annotations

import io
import os
import stat
import warnings
import zlib
from contextlib import nullcontext
from typing import BinaryIO

from PIL import Image

from slideformer_runtime.errors import UserError

# The bytes that a PNG begins with.
PNG = b"\x89PNG\r\n\x1a\n"

# What Pillow warns of, such as odd metadata, leaves the pixels as they are. Filters belong to the process:
# set once, since one for each image would race between threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


def opened(file: str | os.PathLike[str] | BinaryIO) -> Image.Image:
    """Open an image; a PNG that Pillow refuses for broken metadata is opened without them, as viewers do."""
    try:
        return Image.open(file)
    except (OSError, ValueError):
        with open(file, "rb") if isinstance(file, str | os.PathLike) else nullcontext(file) as source:
            source.seek(0)
            if source.read(len(PNG)) != PNG:
                raise
            return Image.open(io.BytesIO(PNG + pixels_alone(source.read())))


def pixels_alone(chunks: bytes) -> bytes:
    """The chunks of a PNG that its pixels need, and that of EXIF where it is intact."""
    kept, place = b"", 0
    while place < len(chunks):
        end = place + 12 + int.from_bytes(chunks[place : place + 4], "big")
        kind, checked = chunks[place + 4 : place + 8], chunks[place + 4 : end - 4]
        intact = zlib.crc32(checked).to_bytes(4, "big") == chunks[end - 4 : end]
        if kind[:1].isupper() or (kind == b"eXIf" and intact):
            kept += chunks[place:end]
        place = end
    return kept


def refuse_special(path: str | os.PathLike[str]) -> None:
    """Refuse a FIFO, socket or device, which would block whoever opens it.

    Raises:
        UserError: it is one, or a folder.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise UserError(f"{os.fspath(path)!r} must be a regular file; replace it or give another path")
