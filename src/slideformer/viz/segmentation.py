# SPDX-License-Identifier: Apache-2.0
"""Pictures with the class of every pixel in colour."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slideformer.viz.figure import INK, drawable, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A turn of the colour circle by the golden section: each next hue lies far from all before it.
GOLDEN = 0.618034
FIRST_HUE = 0.08
# Names that a legend has room for.
NAMES = 24
# What is seen of the colour; the rest is the picture's.
OPACITY = 0.55


def class_colours(classes: int, background: bool = False) -> list[tuple[int, int, int]]:
    """Colours that can be told apart: red, green and blue of each class, from 0 to 255.

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


def overlay(image: Any, labels: Any, colours: Sequence[Sequence[int]], opacity: float = OPACITY) -> Any:
    """A picture with classes blended over it; a class of black leaves the picture as it is.

    Args:
        image: ``(height, width, 3)``, 8-bit.
        labels: ``(height, width)``, class numbers.
        colours: of each class.
        opacity: share of the colour, of 1.

    Raises:
        ValueError: the sizes differ, or a class has no colour.
    """
    picture, classes = np.asarray(image), np.asarray(labels)
    if picture.shape[:2] != classes.shape:
        raise ValueError(f"labels must be as large as the picture, {picture.shape[:2]}, got {classes.shape}")
    if classes.size and int(classes.max()) >= len(colours):
        raise ValueError(f"every class must have a colour, got {len(colours)} for class {int(classes.max())}")
    palette = np.asarray(colours, dtype=np.float32)
    seen = (palette.max(1) > 0).astype(np.float32) * np.float32(opacity)
    # Where a class ends the colour is all that is seen: a class may be of the picture's own colour there.
    shown = np.where(edges(classes), seen[classes] > 0, seen[classes])[..., None]
    return (picture * (1 - shown) + palette[classes] * shown).round().astype(np.uint8)


def edges(classes: Any) -> Any:
    """Whether the pixel to the right or below has another class: ``(height, width)``."""
    found = np.zeros(classes.shape, dtype=bool)
    found[:-1] |= classes[:-1] != classes[1:]
    found[:, :-1] |= classes[:, :-1] != classes[:, 1:]
    return found


def segmentation_figure(
    image: Any, labels: Any, class_names: Sequence[str], colours: Sequence[Sequence[int]]
) -> Figure:
    """The figure of `segmentation_picture`."""
    from matplotlib.patches import Patch

    blended = overlay(image, labels, colours)
    height, width = blended.shape[:2]
    present, counts = np.unique(np.asarray(labels), return_counts=True)
    order = present[np.argsort(-counts, kind="stable")]
    side = 5.0
    figure = new_figure(side * width / max(height, width) + 2.0, max(2.0, side * height / max(height, width)))
    axes = figure.add_subplot()
    axes.imshow(blended, interpolation="nearest")
    axes.set_axis_off()
    total = np.asarray(labels).size
    shares = dict(zip(present.tolist(), (100 * counts / total).tolist(), strict=True))
    patches = [
        Patch(
            facecolor="#{:02x}{:02x}{:02x}".format(*colours[n]) if any(colours[n]) else "white",
            edgecolor=INK,
            linewidth=0.5,
            label=f"{drawable(class_names[n])}  {shares[n]:.1f} %",
        )
        for n in order[:NAMES].tolist()
    ]
    more = len(order) - len(patches)
    figure.legend(
        handles=patches,
        loc="outside right upper",
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        title=f"and {more} more" if more > 0 else None,
    )
    return figure


def segmentation_picture(
    image: Any,
    labels: Any,
    class_names: Sequence[str],
    out: str | Path,
    colours: Sequence[Sequence[int]] | None = None,
) -> Path:
    """Draw a picture with its classes in colour and a legend of those that are there as PNG.

    Args:
        image: ``(height, width, 3)``, 8-bit RGB, PIL's or an array.
        labels: ``(height, width)``, class numbers.
        class_names: in the order of the numbers.
        out: the file.
        colours: red, green and blue of each class; `class_colours` where None.

    Raises:
        ValueError: the sizes differ, or a class has no name or colour.
    """
    chosen = class_colours(len(class_names)) if colours is None else colours
    return save(segmentation_figure(image, labels, class_names, chosen), out)
