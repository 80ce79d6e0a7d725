# SPDX-License-Identifier: Apache-2.0
"""Pictures with what a model took them for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slideformer.viz.figure import RIGHT, WRONG, drawable, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    """Draw pictures with their predicted classes as PNG; wrong ones in bold, framed, with the truth.

    Args:
        images: pictures, PIL's or arrays ``(height, width, 3)``.
        labels: true class numbers.
        predictions: predicted class numbers.
        class_names: in the order of the numbers.
        out: the file.

    Raises:
        ValueError: lengths differ, or there is no picture.
    """
    return save(prediction_figure(images, labels, predictions, class_names), out)
