# SPDX-License-Identifier: Apache-2.0
"""Draws the images of `docs/explanation.md`: ``python docs/figures.py`` writes them to ``docs/images``.

Each has a white ground, so that it can be read on light and dark pages.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

IMAGES = Path(__file__).parent / "images"
SIDE = 5
TAPS = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
# A map whose positions have a letter each, and what a query sees beyond its border.
LETTERS = np.array(list(string.ascii_lowercase[: SIDE * SIDE])).reshape(SIDE, SIDE)
OUTSIDE = "0"
INK, FAINT, PALE, LINE = "#24292f", "#6b7785", "#f3f5f8", "#9aa5b1"
BLUE, ORANGE, GREEN = "#2f6fb4", "#b85c0f", "#23764a"
LIGHT = {BLUE: "#cfe1f5", ORANGE: "#fbdcc0", GREEN: "#cfeadb"}
Point = tuple[float, float]


def canvas(wide: float, high: float, inches: float = 0.26) -> tuple[Figure, Axes]:
    """A figure whose unit is the side of a position of the map."""
    figure = Figure(figsize=(wide * inches, high * inches))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, wide), ylim=(-high, 0), aspect="equal")
    axes.axis("off")
    return figure, axes


def words(axes: Axes, at: Point, text: str, colour: str = INK, size: float = 9, **style: object) -> None:
    """Text, centred; y is counted downward, as in all functions here."""
    style = {"ha": "center", "va": "center", **style}
    axes.text(at[0], -at[1], text, color=colour, size=size, **style)


def box(axes: Axes, at: Point, wide: float, high: float, fill: str = "none", **style: object) -> None:
    """A rectangle, its upper left corner ``at``."""
    style = {"edgecolor": LINE, "linewidth": 0.6, **style}
    axes.add_patch(Rectangle((at[0], -at[1] - high), wide, high, facecolor=fill, **style))


def arrow(axes: Axes, begin: Point, end: Point, colour: str = INK) -> None:
    """An arrow between two points."""
    ends = ((x, -y) for x, y in (begin, end))
    style = {"arrowstyle": "-|>", "mutation_scale": 11, "linewidth": 1.2, "color": colour}
    axes.add_patch(FancyArrowPatch(*ends, **style))


def grid(
    axes: Axes, at: Point, letters: np.ndarray, fill: Callable[[int, int], str], size: float = 1
) -> None:
    """Letters in squares, coloured by row and column."""
    for (row, column), letter in np.ndenumerate(letters):
        x, y = at[0] + column * size, at[1] + row * size
        box(axes, (x, y), size, size, fill(row, column))
        faint = letter == OUTSIDE or fill(row, column) == PALE
        words(axes, (x + size / 2, y + size / 2), letter, FAINT if faint else INK, size=8 * size)


def seen(tap: int) -> np.ndarray:
    """The map through one tap: the letter that each query sees there."""
    padded = np.pad(LETTERS, 1, constant_values=OUTSIDE)
    row, column = TAPS[tap]
    return padded[1 + row : 1 + row + SIDE, 1 + column : 1 + column + SIDE]


# The matrix that all three views describe: K² neighbours x H W queries.
NEIGHBOURS = np.stack([seen(tap).ravel() for tap in range(len(TAPS))])
QUERY, TAP = 13, 5  # the query n, the neighbour to its right


def neighbours(axes: Axes, at: Point, fill: Callable[[int, int], str]) -> None:
    """The matrix of neighbours, with its sizes."""
    size = 0.8
    grid(axes, at, NEIGHBOURS, fill, size)
    rows, columns = NEIGHBOURS.shape
    words(axes, (at[0] + columns * size / 2, at[1] - 0.7), "H W queries", size=8)
    words(axes, (at[0] - 0.7, at[1] + rows * size / 2), "K² neighbours", size=8, rotation=90)


def column_view() -> Figure:
    """Im2Col: a column of the matrix is the window of one query."""
    figure, axes = canvas(30.5, 10.5)
    middle = divmod(QUERY, SIDE)

    def near(row: int, column: int) -> str:
        inside = max(abs(row - middle[0]), abs(column - middle[1])) <= 1
        return LIGHT[BLUE] if inside else PALE

    grid(axes, (0.6, 2.7), LETTERS, near)
    box(axes, (0.6 + middle[1], 2.7 + middle[0]), 1, 1, edgecolor=BLUE, linewidth=2.2)
    words(axes, (3.1, 1.9), "map, H x W", size=8)
    words(axes, (3.1, 8.4), "the window of query n", BLUE)
    arrow(axes, (5.9, 5.2), (7.9, 5.2), BLUE)
    neighbours(axes, (10, 1.7), lambda row, column: LIGHT[BLUE] if column == QUERY else PALE)
    box(axes, (10 + 0.8 * QUERY, 1.7), 0.8, 7.2, edgecolor=BLUE, linewidth=2.2)
    words(axes, (10 + 0.8 * (QUERY + 0.5), 9.7), "column n: the window of query n", BLUE)
    return figure


def row_view() -> Figure:
    """Feature shift: a row of the same matrix is the whole map, shifted."""
    figure, axes = canvas(30.5, 10.5)
    grid(axes, (0.6, 2.7), seen(TAP), lambda row, column: LIGHT[ORANGE])
    words(axes, (3.1, 1.9), "map, shifted by one", size=8)
    words(axes, (3.1, 8.4), "the right neighbours", ORANGE)
    words(axes, (3.1, 9.4), "of all queries", ORANGE)
    arrow(axes, (5.9, 5.2), (7.9, 5.2), ORANGE)
    neighbours(axes, (10, 1.7), lambda row, column: LIGHT[ORANGE] if row == TAP else PALE)
    box(axes, (10, 1.7 + 0.8 * TAP), 20, 0.8, edgecolor=ORANGE, linewidth=2.2)
    words(axes, (20, 9.7), "this row: the right neighbours of all queries", ORANGE)
    return figure


def kernel(axes: Axes, at: Point, weights: np.ndarray, size: float = 1) -> None:
    """Weights in squares: orange below 0, white, blue above."""
    colours = mpl.colormaps["PuOr"]
    for (row, column), weight in np.ndenumerate(weights):
        box(axes, (at[0] + column * size, at[1] + row * size), size, size, colours(0.5 + weight / 2))


def one_hot_kernels() -> Figure:
    """Depthwise convolution: a shift is a one-hot kernel, all shifts are an identity matrix."""
    figure, axes = canvas(30.5, 9.2)
    grid(axes, (0.6, 2.4), LETTERS, lambda row, column: PALE)
    words(axes, (6.55, 4.9), "conv", size=8)
    kernel(axes, (7.5, 3.4), np.eye(9)[TAP].reshape(3, 3))
    words(axes, (11.4, 4.9), "=", size=14)
    grid(axes, (12.3, 2.4), seen(TAP), lambda row, column: LIGHT[ORANGE])
    words(axes, (3.1, 1.5), "map", size=8)
    words(axes, (9, 2.4), "one-hot kernel", size=8)
    words(axes, (14.8, 1.5), "map, shifted by one", size=8)
    for tap in range(9):
        at = (19.3 + 1.9 * (tap % 3), 2.1 + 1.9 * (tap // 3))
        kernel(axes, at, np.eye(9)[tap].reshape(3, 3), 0.5)
        if tap == TAP:
            box(axes, at, 1.5, 1.5, edgecolor=ORANGE, linewidth=2)
    words(axes, (21.95, 1.2), "all K² kernels", size=8)
    arrow(axes, (24.9, 4.8), (25.7, 4.8))
    kernel(axes, (25.9, 2.7), np.eye(9), 0.46)
    box(axes, (25.9, 2.7 + 0.46 * TAP), 0.46 * 9, 0.46, edgecolor=ORANGE, linewidth=2)
    words(axes, (28, 1.7), "a row each:", size=8)
    words(axes, (28, 7.6), "the identity", size=8)
    words(axes, (28, 8.4), "of K² x K²", size=8)
    return figure


def merged_shift() -> Figure:
    """The deformed shift: fixed and learned weights are summed before anything is computed."""
    figure, axes = canvas(30.5, 12.2)
    learned = np.random.default_rng(3).uniform(-0.33, 0.33, (9, 9))
    columns = (
        ("fixed: the identity", np.eye(9), 1.2),
        ("learned: any weights", learned, 11.2),
        ("merged", np.eye(9) + learned, 21.2),
    )
    for name, weights, x in columns:
        words(axes, (x + 4, 1), name)
        kernel(axes, (x + 0.8, 1.8), weights, 0.7)
        box(axes, (x + 0.8, 1.8 + 0.7 * TAP), 6.3, 0.7, edgecolor=BLUE, linewidth=2)
        kernel(axes, (x + 2.8, 9.1), weights[TAP].reshape(3, 3), 0.75)
        box(axes, (x + 2.8, 9.1), 2.25, 2.25, edgecolor=BLUE, linewidth=2)
    for sign, x in (("+", 10.2), ("=", 20.2)):
        words(axes, (x, 4.9), sign, size=16)
        words(axes, (x, 10.2), sign, size=16)
    words(axes, (0.9, 4.9), "output taps", size=8, rotation=90)
    words(axes, (5.2, 8.55), "input taps", size=8)
    words(axes, (1.9, 9.8), "one row,", BLUE, size=8)
    words(axes, (1.9, 10.6), "as a kernel", BLUE, size=8)
    return figure


def stage(axes: Axes, at: Point, size: Point, lines: tuple[str, str], colour: str, copies: int = 1) -> None:
    """A tensor as a box, or several behind each other, with its name and its size."""
    for copy in reversed(range(copies)):
        box(
            axes,
            (at[0] + 0.25 * copy, at[1] - 0.25 * copy),
            *size,
            LIGHT[colour],
            edgecolor=colour,
            linewidth=1,
        )
    middle = at[0] + size[0] / 2
    words(axes, (middle, at[1] + size[1] / 2), lines[0], colour, size=8.5)
    words(axes, (middle, at[1] + size[1] + 0.7), lines[1], FAINT, size=8)


def order_of_sums() -> Figure:
    """Two orders of the same sums: shifted copies first, or a product of matrices for each tap."""
    figure, axes = canvas(30.5, 13.4)
    title = {"weight": "bold", "ha": "left"}
    words(axes, (0.8, 0.9), "The paper: copies first", **title)
    stage(axes, (0.8, 3.6), (3.4, 2), ("keys", "N x D"), GREEN)
    arrow(axes, (4.5, 4.6), (8.3, 4.6))
    words(axes, (6.4, 3.5), "convolve", size=8)
    words(axes, (6.4, 5.4), "with W", size=8)
    stage(axes, (8.7, 3.6), (3.4, 2), ("keys", "N x D, K² times"), ORANGE, copies=9)
    arrow(axes, (14.4, 4.6), (20.2, 4.6))
    words(axes, (17.3, 3.5), "* query,", size=8)
    words(axes, (17.3, 5.4), "sum over D", size=8)
    stage(axes, (20.6, 3.6), (3.4, 2), ("logits", "N x K²"), BLUE)
    words(axes, (27.3, 4.2), "in memory:", size=8)
    words(axes, (27.3, 5), "K² maps", ORANGE, size=8)
    words(axes, (0.8, 8.3), "slideformer: a matrix product a tap", **title)
    stage(axes, (0.8, 10), (3.4, 2), ("keys, tap u", "a view"), GREEN)
    arrow(axes, (4.5, 11), (8.3, 11))
    words(axes, (6.4, 10), "* query", size=8)
    stage(axes, (8.7, 10), (3.4, 2), ("product", "N x D"), GREEN)
    words(axes, (13.2, 11), "@", size=11)
    stage(axes, (14.3, 10), (2.4, 2), ("W of u", "D x K²"), ORANGE)
    arrow(axes, (17.1, 11), (20.2, 11))
    words(axes, (18.6, 10), "add to", size=8)
    stage(axes, (20.6, 10), (3.4, 2), ("logits", "N x K²"), BLUE)
    words(axes, (27.3, 10.2), "tap after tap;", size=8)
    words(axes, (27.3, 11), "in memory:", size=8)
    words(axes, (27.3, 11.8), "padded map, a tile", GREEN, size=8)
    return figure


FIGURES = {
    "column-view": column_view,
    "row-view": row_view,
    "one-hot-kernels": one_hot_kernels,
    "merged-shift": merged_shift,
    "order-of-sums": order_of_sums,
}


def draw(folder: Path) -> list[Path]:
    """Write every image as PNG."""
    files = [folder / f"{name}.png" for name in FIGURES]
    for file, figure in zip(files, FIGURES.values(), strict=True):
        figure().savefig(file, dpi=180, metadata={"Software": None})
    return files


if __name__ == "__main__":
    for written in draw(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES):
        print(written)
