# SPDX-License-Identifier: Apache-2.0
"""Many images in one: a grid of files, and of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from slideformer.errors import UserError
from slideformer.files import atomic_write
from slideformer.viz.figure import RIGHT, WRONG, drawable, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure


COLUMNS, SIDE, GAP = 4, 320, 8


def image_grid(files: Sequence[str | Path], out: str | Path) -> Path:
    """Put images in rows as one PNG, each resized to fit a square.

    Args:
        files: of the images, row by row.
        out: the file.

    Raises:
        UserError: there is no image.
    """
    if not files:
        raise UserError("there must be an image to show, got none")
    shown = [thumbnail(file) for file in files]
    columns = min(COLUMNS, len(shown))
    rows = [shown[start : start + columns] for start in range(0, len(shown), columns)]
    heights = [max(image.height for image in row) for row in rows]
    size = (columns * (SIDE + GAP) - GAP, sum(heights) + GAP * (len(rows) - 1))
    grid = Image.new("RGB", size, "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, image in enumerate(row):
            grid.paste(image, (column * (SIDE + GAP) + (SIDE - image.width) // 2, top))
        top += height + GAP
    with atomic_write(out) as unfinished:
        grid.save(unfinished, format="png")
    return Path(out)


def thumbnail(file: str | Path) -> Image.Image:
    """An image resized to fit a square, RGB."""
    with Image.open(file) as image:
        shown = image.convert("RGB")
    shown.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return shown


def prediction_figure(
    images: Sequence[Any], labels: Sequence[int], predictions: Sequence[int], class_names: Sequence[str]
) -> Figure:
    """The figure of `prediction_grid`."""
    if not len(images) == len(labels) == len(predictions) or not len(images):
        raise ValueError(
            "there must be as many labels and predictions as images, and one at least, "
            f"got {len(labels)}, {len(predictions)} and {len(images)}"
        )
    columns = min(10, len(images))
    rows = -(-len(images) // columns)
    figure = new_figure(1.05 * columns, 1.32 * rows + 0.5)
    hits = sum(label == guess for label, guess in zip(labels, predictions, strict=True))
    figure.suptitle(f"{hits} of {len(images)} right; a wrong one says what it was", fontsize=10)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, panel in enumerate(axes):
        panel.set_xticks([])
        panel.set_yticks([])
        if place >= len(images):
            panel.set_visible(False)
            continue
        label, guess = (drawable(class_names[row[place]]) for row in (labels, predictions))
        right = labels[place] == predictions[place]
        panel.imshow(np.asarray(images[place]), interpolation="nearest")
        words = guess if right else f"{guess}, not {label}"
        colour = RIGHT if right else WRONG
        panel.set_title(words, fontsize=9, color=colour, fontweight="normal" if right else "bold", pad=3)
        for spine in panel.spines.values():
            spine.set(color=colour, linewidth=1 if right else 3)
    return figure


def prediction_grid(
    images: Sequence[Any],
    labels: Sequence[int],
    predictions: Sequence[int],
    class_names: Sequence[str],
    out: str | Path,
) -> Path:
    """Draw images with their predicted classes as PNG; wrong ones in bold, framed, with the truth.

    Args:
        images: images, PIL's or arrays ``(height, width, 3)``.
        labels: true class numbers.
        predictions: predicted class numbers.
        class_names: in the order of the numbers.
        out: the file.

    Raises:
        ValueError: lengths differ, or there is no image.
    """
    return save(prediction_figure(images, labels, predictions, class_names), out)
