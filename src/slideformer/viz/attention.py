# SPDX-License-Identifier: Apache-2.0
"""Where one position looks: its window on the image, and the weights of every head."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slideformer.viz.figure import ACCENT, INK, SOFT, WRONG, array, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Up to this side of the window a weight has room for its number.
NUMBERS = 5


def attention_figure(
    image: Any, weights: Any, position: tuple[int, int], *, patch_size: int, title: str
) -> Figure:
    """The figure of `attention_map`."""
    from matplotlib.patches import Rectangle

    pixels, shares = np.asarray(image), array(weights, np.float64)
    side = math.isqrt(shares.shape[1]) if shares.ndim == 2 else 0
    if side == 0 or side * side != shares.shape[1]:
        raise ValueError(f"weights must be (heads, K * K), got {shares.shape}")
    rows, columns = (length // patch_size for length in pixels.shape[:2])
    row, column = position
    if not (0 <= row < rows and 0 <= column < columns):
        raise ValueError(f"position must be on the map of {rows} x {columns}, got {position}")
    heads = len(shares)
    figure = new_figure(3.0 + 2.1 * heads, 3.1)
    figure.suptitle(title, fontsize=10, color=INK)
    panels = figure.subplots(1, heads + 1, width_ratios=[1.35, *[1] * heads])
    panels[0].imshow(pixels, interpolation="nearest")
    panels[0].set_xlabel("the position and its window", fontsize=9, color=SOFT)
    top, left = (place - side // 2 for place in position)

    def outline(top: int, left: int, size: int, colour: str) -> Rectangle:
        corner = (left * patch_size - 0.5, top * patch_size - 0.5)
        length = size * patch_size
        return Rectangle(corner, length, length, fill=False, edgecolor=colour, linewidth=2.2, clip_on=False)

    panels[0].add_patch(outline(top, left, side, ACCENT))
    panels[0].add_patch(outline(row, column, 1, WRONG))
    for head, panel in enumerate(panels[1:]):
        grid = shares[head].reshape(side, side)
        panel.imshow(grid, cmap="Blues", vmin=0, vmax=max(shares.max(), 1e-9))
        panel.set_xlabel(f"head {head + 1}", fontsize=9, color=SOFT)
        for y in range(side):
            for x in range(side):
                outside = not (0 <= top + y < rows and 0 <= left + x < columns)
                if outside:
                    panel.add_patch(
                        Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch="///", edgecolor=SOFT)
                    )
                if side <= NUMBERS:
                    shade = "white" if grid[y, x] > 0.6 * shares.max() else INK
                    panel.text(
                        x, y, f"{100 * grid[y, x]:.0f}", ha="center", va="center", fontsize=9, color=shade
                    )
    for panel in panels:
        panel.set_xticks([])
        panel.set_yticks([])
    return figure


def attention_map(
    image: Any,
    weights: Any,
    position: tuple[int, int],
    out: str | Path,
    *,
    patch_size: int,
    title: str = "attention, % of one position's weight",
) -> Path:
    """Draw the K x K attention of one position as PNG; taps outside the image are hatched.

    Args:
        image: the image, PIL's or an array ``(height, width, 3)``.
        weights: ``(G, K * K)``, softmax weights of each head, taps row by row.
        position: row and column on the map.
        out: the file.
        patch_size: pixels a position, of the image.
        title: above the image.

    Raises:
        ValueError: the weights are not a square window, or the position is not on the map.
    """
    return save(attention_figure(image, weights, position, patch_size=patch_size, title=title), out)
