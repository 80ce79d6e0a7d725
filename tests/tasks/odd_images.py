# SPDX-License-Identifier: Apache-2.0
"""Images of every mode and format, what they show, and damaged ones."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

RAMP = np.linspace(0, 255, 48).round().astype(np.uint8).reshape(6, 8)
ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pixels: bytes, tags: dict[int, tuple[int, ...]], order: str = "<") -> bytes:
    """An uncompressed TIFF of 8 x 6 pixels, whose tags are given, one or two numbers each."""
    shared = {256: (8,), 257: (6,), 259: (1,), 277: (1,), 278: (6,)}
    table = {**shared, **tags, 273: (0,), 279: (len(pixels),)}
    start = 8 + 2 + 12 * len(table) + 4
    table[273] = (start,)
    rows = b""
    for number, values in sorted(table.items()):
        inline = struct.pack(f"{order}{len(values)}H", *values).ljust(4, b"\0")
        rows += struct.pack(f"{order}HHI", number, 3, len(values)) + inline
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    return head + struct.pack(f"{order}H", len(table)) + rows + bytes(4) + pixels


def of(mode: str) -> Image.Image:
    """The ramp in a mode."""
    steps = {"La": ("LA", "La"), "RGBa": ("RGBA", "RGBa"), "LAB": (), "HSV": ("RGB", "HSV"), "PA": ("PA",)}
    image = Image.fromarray(RAMP)
    for step in steps.get(mode, (mode,)):
        image = image.convert(step)
    return image


def turned_by(orientation: Any) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def twelve_bits() -> bytes:
    """The ramp, two pixels in three bytes."""
    first, second = (RAMP.ravel() / 255 * 4095).round().astype(int).reshape(-1, 2).T
    rows = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1)
    return rows.astype(np.uint8).tobytes()


SHARE = RAMP / np.float32(255)
DEEP = RAMP.astype(np.uint16) * 257

# All of these show the ramp, within the rounding that the second entry allows.
SHOWN: dict[str, tuple[bytes, int]] = {
    "8 bits, PNG": (encoded(of("L"), "png"), 0),
    "colour, PNG": (encoded(of("RGB"), "png"), 0),
    "with opacity, PNG": (encoded(of("RGBA"), "png"), 0),
    "grey with opacity, PNG": (encoded(of("LA"), "png"), 0),
    "grey with a transparent value, PNG": (encoded(of("L"), "png", transparency=0), 0),
    "palette, GIF": (encoded(of("RGB").quantize(256), "gif"), 0),
    "palette with transparency, PNG": (encoded(of("RGB").quantize(256), "png", transparency=3), 0),
    "palette with opacities, PNG": (
        encoded(of("RGB").quantize(256), "png", transparency=bytes(range(256))),
        0,
    ),
    "16 bits, PNG": (encoded(Image.fromarray(DEEP), "png"), 0),
    "16 bits, TIFF": (encoded(Image.fromarray(DEEP), "tiff"), 0),
    "16 bits, compressed TIFF": (encoded(Image.fromarray(DEEP), "tiff", compression="tiff_lzw"), 0),
    "16 bits, PGM": (b"P5 8 6 65535 " + DEEP.astype(">u2").tobytes(), 0),
    "maximum of 1000, PGM": (b"P5 8 6 1000 " + (SHARE * 1000).round().astype(">u2").tobytes(), 1),
    "16 bits, JPEG 2000": (encoded(Image.fromarray(DEEP), "jpeg2000"), 0),
    "16 bits, big-endian TIFF": (tiff(DEEP.astype(">u2").tobytes(), {258: (16,), 262: (1,)}, ">"), 0),
    "16 bits with 0 for white, TIFF": (tiff((65535 - DEEP).tobytes(), {258: (16,), 262: (0,)}), 0),
    "8 bits with 0 for white, TIFF": (tiff((255 - RAMP).tobytes(), {258: (8,), 262: (0,)}), 0),
    "12 bits, TIFF": (tiff(twelve_bits(), {258: (12,), 262: (1,)}), 1),
    "floats from 0 to 1, TIFF": (encoded(Image.fromarray(SHARE), "tiff"), 0),
    "floats with 0 for white, TIFF": (
        tiff((1 - SHARE).astype("<f4").tobytes(), {258: (32,), 262: (0,), 339: (3,)}),
        0,
    ),
    "floats from 0 to 1, PFM": (encoded(Image.fromarray(SHARE), "ppm"), 0),
    "four inks, TIFF": (encoded(of("CMYK"), "tiff"), 0),
    "four inks, JPEG": (encoded(of("CMYK"), "jpeg", quality=100), 6),
    "luma and chroma, TIFF": (encoded(of("YCbCr"), "tiff"), 1),
    "grey times opacity, TIFF": (
        tiff(
            np.stack([RAMP, np.full_like(RAMP, 255)], 2).tobytes(),
            {258: (8, 8), 262: (1,), 277: (2,), 338: (1,)},
        ),
        0,
    ),
    "lossless WebP": (encoded(of("RGB"), "webp", lossless=True), 0),
    "BMP": (encoded(of("RGB"), "bmp"), 0),
    "two pictures, MPO": (
        encoded(of("RGB"), "mpo", save_all=True, append_images=[of("RGB")], quality=100),
        6,
    ),
}
# Where SHARE is above a half, not a number or without end.
HALF_NAN, HALF_INFINITE = (np.where(SHARE > 0.5, np.float32(x), SHARE) for x in (np.nan, np.inf))


def fits() -> bytes:
    """Counts of a telescope: 16 bits with a sign."""
    head = ("SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 8", "NAXIS2  = 6", "END")
    return "".join(row.ljust(80) for row in head).ljust(2880).encode() + DEEP.astype(">i2").tobytes()


# Of these no file says what is white, or Pillow cannot convert them.
REFUSED: dict[str, tuple[bytes, str]] = {
    "floats to 255": (
        encoded(Image.fromarray(RAMP.astype(np.float32)), "tiff"),
        "mode F with values from 0 to 255",
    ),
    "floats below 0": (encoded(Image.fromarray(SHARE - 1), "tiff"), "mode F with values from -1 to 0"),
    "not a number": (encoded(Image.fromarray(HALF_NAN), "tiff"), "mode F with values from nan to nan"),
    "infinite": (encoded(Image.fromarray(HALF_INFINITE), "tiff"), "mode F with values from 0 to inf"),
    "32 bits": (encoded(Image.fromarray(DEEP.astype(np.int32)), "tiff"), "mode I"),
    "32 bits without a sign": (
        tiff((DEEP.astype("<u4") * 65537).tobytes(), {258: (32,), 262: (1,)}),
        "mode I with",
    ),
    "16 bits with a sign": (tiff(DEEP.tobytes(), {258: (16,), 262: (1,), 339: (2,)}), "integers of mode I"),
    "8 bits with a sign": (tiff(RAMP.tobytes(), {258: (8,), 262: (1,), 339: (2,)}), "integers of mode L"),
    "counts of a telescope, FITS": (fits(), "mode I"),
    "printed page, EPS": (encoded(of("RGB"), "eps"), "EPS is read by other programs"),
}


def written() -> list[bytes]:
    """A small file of every format and mode that Pillow can write, with and without metadata."""
    Image.init()
    files = []
    exif = turned_by(6)
    exif[0x010F], exif[0x011A] = "camera", 72.0
    images = [of(mode) for mode in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr")]
    images += [
        of("HSV"),
        Image.fromarray(DEEP),
        Image.fromarray(DEEP.astype(np.int32)),
        Image.fromarray(SHARE),
    ]
    for kind in sorted(Image.SAVE):
        for image in images:
            for options in ({}, {"exif": exif}):
                try:
                    files.append(encoded(image, kind, **options))
                except (OSError, ValueError, KeyError, TypeError, AttributeError):
                    continue  # Pillow cannot write this mode so
    return files


def damaged(count: int) -> Iterator[bytes]:
    """Files with bytes changed, cut off or put in, the same ones every time."""
    choose = random.Random(0)
    files = [*written(), *(data for data, _ in SHOWN.values()), *(data for data, _ in REFUSED.values())]
    for number in range(count):
        data = bytearray(files[number % len(files)])
        place = choose.randrange(len(data))
        match choose.randrange(4):
            case 0:
                del data[place:]
            case 1:
                data[place : place + choose.randrange(1, 8)] = bytes(
                    choose.choices((0, 255), k=choose.randrange(9))
                )
            case _:
                for _ in range(choose.choice((1, 2, 4, 16))):
                    near_the_start = choose.randrange(min(len(data), 160))
                    data[choose.choice((near_the_start, place))] = choose.choice(
                        (0, 1, 127, 255, choose.randrange(256))
                    )
        yield bytes(data)
