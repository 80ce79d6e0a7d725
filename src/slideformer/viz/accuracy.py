# SPDX-License-Identifier: Apache-2.0
"""Accuracies of trainings: by the time of an epoch, or by the number of epochs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from slideformer.viz.benchmark import MARKERS, line_colours
from slideformer.viz.figure import GRID, INK, SOFT, drawable, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def accuracy_figure(figures: Mapping[str, Any], out: str | Path) -> Path:
    """Draw the mean accuracy of each arm, with its standard error, as PNG.

    Args:
        figures: what ``slideformer bench accuracy --json`` writes, of several lengths or with steps.
        out: the file.
    """
    return save(drawn(figures), out)


def drawn(figures: Mapping[str, Any]) -> Figure:
    """The figure of `accuracy_figure`."""
    arms = list(dict.fromkeys(x["arm"] for x in figures["outcomes"]))
    by_length = len({x["epochs"] for x in figures["outcomes"] if x["arm"] != figures["target"]}) > 1
    figure = new_figure(7.0, 4.4)
    axes = figure.subplots()
    for number, (arm, colour) in enumerate(zip(arms, line_colours(len(arms)), strict=True)):
        points = points_of(figures, arm)
        style = {"color": colour, "marker": MARKERS[number % len(MARKERS)], "markersize": 6, "capsize": 3}
        if by_length and arm == figures["target"]:
            axes.axhline(points[0][1], color=colour, linewidth=1.2, label=drawable(arm))
            continue
        places = [length if by_length else seconds(figures, arm) for length, _, _ in points]
        middles, errors = ([point[i] for point in points] for i in (1, 2))
        axes.errorbar(
            places, middles, errors if any(errors) else None, linewidth=1.5, label=drawable(arm), **style
        )
    images = f"{figures['images']:,} images an epoch"
    axes.set_title(f"Fashion-MNIST, {images}: mean and standard error", fontsize=10, color=INK, loc="left")
    if by_length:
        axes.set_xticks(sorted({x["epochs"] for x in figures["outcomes"] if x["arm"] != figures["target"]}))
    axes.set_xlabel("epochs" if by_length else "seconds an epoch, one thread", fontsize=9, color=SOFT)
    axes.set_ylabel(f"top-1 on the {figures['split']} split, %", fontsize=9, color=SOFT)
    axes.grid(color=GRID, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=SOFT)
    axes.legend(fontsize=8, frameon=False)
    return figure


def points_of(figures: Mapping[str, Any], arm: str) -> list[tuple[int, float, float]]:
    """Epochs, mean and standard error in percent, by length."""
    lengths: dict[int, list[float]] = {}
    for x in figures["outcomes"]:
        if x["arm"] == arm:
            lengths.setdefault(x["epochs"], []).append(100 * x["top1"])
    return [
        (length, mean(values), stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0)
        for length, values in sorted(lengths.items())
    ]


def seconds(figures: Mapping[str, Any], arm: str) -> float:
    """Seconds of an epoch by the time of a step; 0 where no step was timed."""
    rows = (figures["steps"] or {"rows": []})["rows"]
    found = [row for row in rows if row["name"] == arm]
    return found[0]["median_ms"] / 1000 * figures["images"] / found[0]["images"] if found else 0.0
