# SPDX-License-Identifier: Apache-2.0
"""The pixels of an opened image as upright 8-bit RGB, as bright as its file defines."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image

# What turns an image upright, by the number of EXIF's orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow lets other programs read EPS, which an IPTC file may contain.
READ_BY_OTHERS = ("EPS", "IPTC")
# Formats whose integers of more than 8 bits Pillow scales to 16 bits without a sign.
SIXTEEN_BITS = ("PNG", "PPM", "JPEG2000")
# Facts that say how an image is to be turned.
TURNING_METADATA = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")


def upright_rgb(image: Image.Image) -> Image.Image:
    """Read an opened image as upright RGB of 8 bits."""
    if image.format in READ_BY_OTHERS:
        raise ValueError(f"{image.format} is read by other programs; save it in another format")
    if image.format == "TIFF":
        orientation(image)  # read before the pixels, since Pillow then turns it upright
    image.load()
    rgb, number = as_rgb(image), orientation(image)
    if number == 1:
        return rgb
    upright = rgb.transpose(TURNS[number])
    for name in TURNING_METADATA:
        upright.info.pop(name, None)
    return upright


def orientation(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 (upright) to 8; 1 where the metadata do not say or are broken."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
        return int(found) if found in TURNS else 1
    # Broken metadata can raise anything, and say nothing about the pixels.
    except Exception:
        return 1


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert an image whose pixels were read to RGB of 8 bits."""
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
    """Scale an image of one channel of more than 8 bits to 8: Pillow would cut off everything above 255.

    Args:
        image: of mode F or one of those that begin with I.
        bits: of its integers.
        inverted: whether 0 is white.

    Raises:
        ValueError: white is not defined, or the values are not from black to white.
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
