# SPDX-License-Identifier: Apache-2.0
"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slideformer.viz.figure import INK, SOFT, array, drawable, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Up to here a cell has room for its number, and an axis for every name.
NUMBERS, NAMES = 20, 40


def confusion_figure(matrix: Any, class_names: Sequence[str]) -> Figure:
    """The figure of `confusion_matrix`."""
    counts = array(matrix, np.int64)
    classes = len(class_names)
    if counts.shape != (classes, classes):
        raise ValueError(f"matrix must be {classes} x {classes}, one row a class name, got {counts.shape}")
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    side = float(np.clip(0.42 * classes + 2.2, 4.5, 11.0))
    figure = new_figure(side + 0.9, side)
    axes = figure.add_subplot()
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    step = max(1, -(-classes // NAMES))
    ticks = range(0, classes, step)
    labels = [drawable(name if len(name) <= 18 else f"{name[:17]}…") for name in class_names]
    size = 9 if classes <= NUMBERS else 7
    axes.set_xticks(ticks, [labels[i] for i in ticks], fontsize=size, color=INK)
    axes.set_yticks(ticks, [labels[i] for i in ticks], fontsize=size, color=INK)
    if max(map(len, labels)) > 2:
        axes.tick_params(axis="x", rotation=90)
    axes.set_xlabel("predicted", color=SOFT)
    axes.set_ylabel("true", color=SOFT)
    hits, total = counts.trace(), counts.sum()
    title = f"{100 * hits / max(1, total):.2f} % right: {hits} of {total} images"
    axes.set_title(title, color=INK, fontsize=11)
    if classes <= NUMBERS:
        for row, column in zip(*counts.nonzero(), strict=True):
            shade = "white" if shares[row, column] > 0.5 else INK
            axes.text(
                column, row, str(counts[row, column]), ha="center", va="center", fontsize=8, color=shade
            )
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label("% of the true class", color=SOFT)
    return figure


def confusion_matrix(matrix: Any, class_names: Sequence[str], out: str | Path) -> Path:
    """Draw a confusion matrix as PNG; colours are shares of the true class, numbers are images.

    Args:
        matrix: ``(classes, classes)`` images by true class (row) and predicted class (column).
        class_names: in the order of the rows.
        out: the file.

    Raises:
        ValueError: the matrix is not square with one row a name.
    """
    return save(confusion_figure(matrix, class_names), out)
