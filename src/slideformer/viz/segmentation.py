# SPDX-License-Identifier: Apache-2.0
"""The class of every pixel over an image, in colours."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from slideformer.viz.legend import Entry, with_legend

# Each hue is a golden section of the colour circle away from the one before, far from all others.
GOLDEN = 0.618034
FIRST_HUE = 0.08
# Share of the colour; the rest is the image's.
OPACITY = 0.55
# Grey value of stripes over pixels without a label, and width of a stripe in pixels.
STRIPES, STRIPE = (40, 215), 3


def class_colours(classes: int, background: bool = False) -> list[tuple[int, int, int]]:
    """Distinct colours: red, green and blue of each class, from 0 to 255.

    Args:
        classes: how many.
        background: whether the first class is black.
    """
    colours = []
    for number in range(classes - background):
        hue = (FIRST_HUE + GOLDEN * number) % 1
        # Further rounds are darker, then paler.
        value, saturation = ((0.95, 0.85), (0.65, 0.9), (0.9, 0.5))[number // 9 % 3]
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return [(0, 0, 0), *colours] if background else colours


def overlay(
    image: Any,
    labels: Any,
    colours: Sequence[Sequence[int]],
    opacity: float = OPACITY,
    *,
    ignored: int | None = None,
) -> Any:
    """Blend classes over an image; a class whose colour is black leaves the image unchanged.

    Args:
        image: ``(height, width, 3)``, 8-bit.
        labels: ``(height, width)``, class numbers.
        colours: of each class.
        opacity: share of the colour, of 1.
        ignored: the number of pixels without a label, which are striped.

    Raises:
        ValueError: the sizes differ, or a class has no colour.
    """
    pixels, classes = np.asarray(image), np.asarray(labels)
    if pixels.shape[:2] != classes.shape:
        raise ValueError(f"labels must be as large as the image, {pixels.shape[:2]}, got {classes.shape}")
    without = np.zeros(classes.shape, bool) if ignored is None else classes == ignored
    numbers = np.where(without, 0, classes)
    if numbers.size and int(numbers.max()) >= len(colours):
        raise ValueError(f"every class must have a colour, got {len(colours)} for class {int(numbers.max())}")
    palette = np.asarray(colours, dtype=np.float32)
    seen = (palette.max(1) > 0).astype(np.float32) * np.float32(opacity)
    # At the edge of a class the colour is opaque: the image may have that very colour there.
    shown = np.where(edges(classes), seen[numbers] > 0, seen[numbers])[..., None]
    blended = pixels * (1 - shown) + palette[numbers] * shown
    rows, columns = np.nonzero(without)
    grey = np.where((rows + columns) // STRIPE % 2, *STRIPES)[:, None]
    blended[rows, columns] = pixels[rows, columns] * (1 - opacity) + grey * opacity
    return blended.round().astype(np.uint8)


def edges(classes: Any) -> Any:
    """Whether the pixel to the right or below has another class: ``(height, width)``."""
    found = np.zeros(classes.shape, dtype=bool)
    found[:-1] |= classes[:-1] != classes[1:]
    found[:, :-1] |= classes[:, :-1] != classes[:, 1:]
    return found


def class_entry(words: str, colour: Sequence[int]) -> Entry:
    """The entry of a class in a legend; one that has no colour is white."""
    return Entry(words, "#{:02x}{:02x}{:02x}".format(*colour) if any(colour) else "#ffffff")


def draw_segmentation(
    image: Any,
    labels: Any,
    class_names: Sequence[str],
    colours: Sequence[Sequence[int]] | None = None,
) -> Image.Image:
    """Draw an image with its classes in colour, and a legend of the classes that occur to the right of it.

    The image keeps its size, at the upper left.

    Args:
        image: ``(height, width, 3)``, 8-bit RGB, of Pillow or an array.
        labels: ``(height, width)``, class numbers.
        class_names: in the order of the numbers.
        colours: red, green and blue of each class; default: `class_colours`.

    Raises:
        ValueError: the sizes differ, or a class has no name or colour.
    """
    chosen = class_colours(len(class_names)) if colours is None else colours
    blended = Image.fromarray(overlay(image, labels, chosen))
    numbers, counts = np.unique(np.asarray(labels), return_counts=True)
    shares = 100 * counts / max(1, counts.sum())
    entries = [
        class_entry(f"{class_names[numbers[place]]}  {shares[place]:.1f} %", chosen[numbers[place]])
        for place in np.argsort(-counts, kind="stable")
    ]
    return with_legend(blended, "", entries)
