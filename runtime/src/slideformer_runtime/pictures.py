# SPDX-License-Identifier: Apache-2.0
"""Finding and reading pictures: any kind a folder may hold, as 8-bit RGB, upright."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from PIL import ExifTags, Image

from slideformer_runtime.errors import UserError
from slideformer_runtime.opening import opened, refuse_special
from slideformer_runtime.walk import files_below

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

# What turns a picture upright, by the number of EXIF's orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow has other programs read EPS, which an IPTC file may hold.
RUN_BY_OTHERS = ("EPS", "IPTC")
# Formats whose integers of more than 8 bits Pillow scales to 16 bits without a sign.
SIXTEEN_BITS = ("PNG", "PPM", "JPEG2000")
# Where an image says how it is to be turned.
METADATA = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
# A path, the bytes of a file, an open file, or a picture that is read already.
Source: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | Image.Image"


class UnreadableImageError(UserError):
    """A picture that cannot be read, or whose brightness its file does not define.

    Args:
        reason: what is wrong with it.
        file: its path, where it has one.
    """

    def __init__(self, reason: str, file: str = "") -> None:
        super().__init__(f"{file}: {reason}" if file else reason)
        self.reason = reason


def read_picture(source: Source) -> Image.Image:
    """Read a picture as RGB of 8 bits, turned as its camera meant it, as bright as its file defines.

    Grey, palette, CMYK and 16-bit pictures are converted; floating-point ones must be from 0, black, to 1,
    white; transparency is dropped; of an animation the first frame is taken: the same pixels that slideformer
    trains on.

    Args:
        source: path, bytes, open file or picture.

    Raises:
        UnreadableImageError: it is not a complete picture, or its file does not say how bright it is.
    """
    try:
        if isinstance(source, Image.Image):
            return converted(source)
        if isinstance(source, str | os.PathLike):
            refuse_special(source)
        with opened(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return converted(image)
    except UserError as error:  # ours, and says which file it is about
        raise UnreadableImageError(str(error)) from error
    # Decoders raise whatever some bytes lead them to, TypeError, struct.error and MemoryError among it.
    except Exception as error:
        path = str(source) if isinstance(source, str | os.PathLike) else ""
        raise UnreadableImageError(f"{type(error).__name__}: {error}", path) from error


def converted(image: Image.Image) -> Image.Image:
    """A picture as upright RGB of 8 bits."""
    if image.format in RUN_BY_OTHERS:
        raise ValueError(f"{image.format} is read by other programs; save it in another format")
    if image.format == "TIFF":
        orientation(image)  # read before the pixels, since Pillow then turns it upright
    image.load()
    return turned(as_rgb(image), orientation(image))


def orientation(image: Image.Image) -> int:
    """EXIF's orientation of an image, 1 (upright) to 8; 1 where its metadata does not say or is broken."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
        return int(found) if found in TURNS else 1
    # Broken metadata can raise anything, and says nothing about the pixels.
    except Exception:
        return 1


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Return upright an image stored with an orientation, without the metadata that would turn it again."""
    if orientation not in TURNS:
        return image
    upright = image.transpose(TURNS[orientation])
    for name in METADATA:
        upright.info.pop(name, None)
    return upright


def as_rgb(image: Image.Image) -> Image.Image:
    """An image whose pixels were read, as RGB of 8 bits.

    Raises:
        ValueError: it has no pixels, or its brightness is not defined.
    """
    if 0 in image.size:
        raise ValueError(f"it must have pixels, got {image.width} x {image.height}")
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    if 2 in tags.get(339, ()):  # SampleFormat: signed integers
        raise ValueError(
            f"it must have no sign, got signed integers of mode {image.mode}; save it with 8 bits"
        )
    if image.mode == "F" or image.mode.startswith("I"):
        # A TIFF says how many bits it has, and whether 0 is its white.
        return as_grey(image, bits=max(tags.get(258, (16,))), inverted=tags.get(262) == 0).convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    if "transparency" in image.info:  # of a palette: Pillow drops it from RGBA without a warning
        image = image.convert("RGBA")
    return image.convert("RGB")


def as_grey(image: Image.Image, *, bits: int, inverted: bool) -> Image.Image:
    """An image of one channel of more than 8 bits with 8, scaled: Pillow would cut off what is above 255.

    Args:
        image: of mode F or one of those that begin with I.
        bits: of its integers.
        inverted: whether 0 is white.

    Raises:
        ValueError: what is white is not defined, or its values are not from black to white.
    """
    known = image.format in SIXTEEN_BITS or (image.mode != "I" and image.format in ("TIFF", None))
    white = 1.0 if image.mode == "F" else 2.0**bits - 1
    pixels = np.asarray(image, dtype=np.float64)
    low, high = pixels.min(), pixels.max()
    if not (image.mode == "F" or known) or not 0 <= low <= high <= white:
        raise ValueError(
            "it must have 16 bits without a sign or be floating-point from 0 to 1, got mode "
            f"{image.mode} with values from {low:g} to {high:g}; save it with 8 or 16 bits"
        )
    share = pixels / white
    return Image.fromarray((255 * (1 - share if inverted else share)).round().astype(np.uint8))


def find_pictures(patterns: Iterable[str]) -> list[str]:
    """The pictures that files, folders (with all below them) and globs name, in order, each once.

    Raises:
        UserError: one of them names nothing, or something that is neither a file nor a folder.
    """
    found: list[str] = []
    for pattern in patterns:
        if os.path.isdir(pattern):
            below = [name for name in files_below(pattern) if name.lower().endswith(SUFFIXES)]
        elif os.path.exists(pattern):
            refuse_special(pattern)
            below = [pattern]
        else:
            below = sorted(name for name in glob.glob(pattern, recursive=True) if os.path.isfile(name))
        if not below:
            raise UserError(
                f"{pattern} must be a picture, a folder of pictures or a glob, but names none; check it"
            )
        found.extend(str(Path(name)) for name in below)
    return list(dict.fromkeys(found))
