# SPDX-License-Identifier: Apache-2.0
"""Real images and made ones, of every kind that a folder may hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

REAL = ("astronaut", "coffee", "chelsea", "rocket", "camera")
ORIENTATION = 0x0112


def sixteen_bits(file: Path) -> None:
    grey = np.linspace(0, 65535, 60 * 83).reshape(60, 83).astype(np.uint16)
    Image.fromarray(grey).save(file)


def palette_with_transparency(file: Path) -> None:
    image = Image.fromarray(data.coffee()).resize((90, 60)).quantize(32)
    image.save(file, transparency=3)


def turned_by_exif(file: Path) -> None:
    image = Image.fromarray(data.chelsea())
    exif = image.getexif()
    exif[ORIENTATION] = 6
    image.save(file, exif=exif)


def with_opacity(file: Path) -> None:
    pixels = data.astronaut()[100:200, 150:300]
    opacity = np.broadcast_to(np.arange(150, dtype=np.uint8), (100, 150))
    Image.fromarray(np.dstack([pixels, opacity])).save(file)


def one_pixel_wide(file: Path) -> None:
    Image.fromarray(np.ascontiguousarray(data.astronaut()[:40, 200:201])).save(file)


def one_bit(file: Path) -> None:
    Image.fromarray(data.camera()[:70, :90] > 100).save(file)


def four_inks(file: Path) -> None:
    Image.fromarray(data.coffee()[:100, :140]).convert("CMYK").save(file)


MADE: dict[str, Callable[[Path], None]] = {
    "sixteen_bits.png": sixteen_bits,
    "sixteen_bits.tif": sixteen_bits,
    "palette_with_transparency.png": palette_with_transparency,
    "turned_by_exif.jpg": turned_by_exif,
    "with_opacity.png": with_opacity,
    "one_pixel_wide.png": one_pixel_wide,
    "one_bit.png": one_bit,
    "four_inks.jpg": four_inks,
}
NAMES = (*(f"{name}.png" for name in REAL), *MADE)


def write_images(folder: Path) -> dict[str, Path]:
    """Write all of them; their paths by their names."""
    for name in REAL:
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.png")
    for name, make in MADE.items():
        make(folder / name)
    return {name: folder / name for name in NAMES}
