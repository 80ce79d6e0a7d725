# SPDX-License-Identifier: Apache-2.0
"""The positions that one query sees, pattern by pattern."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slideformer.viz.figure import ACCENT, GRID, INK, SOFT, WRONG, array, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
PALE_TO_DARK = ("#d6e6f5", ACCENT, "#0b1f3a")
# A position below this part of the largest is not seen: a window's mask leaves e^-100 of the hidden ones.
UNSEEN = 1e-9


def pattern_figure(
    footprints: Mapping[str, Any], query: tuple[int, int], *, captions: Mapping[str, str], title: str
) -> Figure:
    """The figure of `pattern_map`."""
    if not footprints:
        raise ValueError("`footprints` must have at least one, got none")
    maps = {name: array(footprint, np.float64) for name, footprint in footprints.items()}
    for name, footprint in maps.items():
        if footprint.ndim != 2 or not all(0 <= i < n for i, n in zip(query, footprint.shape, strict=True)):
            raise ValueError(f"`query` must be on the map of {name}, {footprint.shape}, got {query}")
    columns = min(COLUMNS, len(maps))
    rows = -(-len(maps) // columns)
    figure = new_figure(2.9 * columns, 3.2 * rows + 0.3)
    figure.suptitle(title, fontsize=10, color=INK)
    figure.set_layout_engine("constrained", h_pad=0.06, w_pad=0.06, hspace=0.03)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, (name, footprint) in zip(panels, maps.items(), strict=False):
        draw_panel(panel, footprint, query)
        panel.set_title(name, fontsize=10, color=INK)
        panel.set_xlabel(captions.get(name, ""), fontsize=8, color=SOFT)
    for panel in panels[len(maps) :]:
        panel.set_visible(False)
    return figure


def draw_panel(panel: Axes, footprint: np.ndarray[Any, Any], query: tuple[int, int]) -> None:
    """Draw a footprint and mark its query; only positions that the query does not see are white."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    row, column = query
    colours = LinearSegmentedColormap.from_list("seen", PALE_TO_DARK)
    panel.imshow(shades(footprint, query), cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    panel.add_patch(
        Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=WRONG, edgecolor="white", linewidth=0.5)
    )
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_color(GRID)


def shades(footprint: np.ndarray[Any, Any], query: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Darkness of each position, from 0 to 1; NaN where the query does not see it.

    The query itself mostly matters far more than any other position, so the scale leaves it out, and the
    strongest hundredth of the others.
    """
    others = np.where(footprint > UNSEEN * footprint.max(), footprint, np.nan)
    others[query] = np.nan
    if np.isnan(others).all():
        return others
    return np.clip(others / np.nanpercentile(others, 99), 0, 1)


def pattern_map(
    footprints: Mapping[str, Any],
    query: tuple[int, int],
    out: str | Path,
    *,
    captions: Mapping[str, str],
    title: str = "where the query (red) looks",
) -> Path:
    """Draw which positions change what one query gets as PNG, one panel a pattern.

    Args:
        footprints: how much each position changes the output of the query, ``(H, W)``, 0 or more, by the
            pattern's name; each panel has a scale of its own.
        query: row and column of the query.
        out: the file.
        captions: below the panels, by the pattern's name.
        title: above all.

    Raises:
        ValueError: there is no footprint, or one is not a map, or the query is not on it.
    """
    return save(pattern_figure(footprints, query, captions=captions, title=title), out)
