# SPDX-License-Identifier: Apache-2.0
"""Time and memory by the size of the map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from slideformer.viz.figure import DISTINCT, GRID, INK, SOFT, drawable, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "os^Dv<>P"
# Title of a panel -> the figure of a measurement that it shows.
PANELS = {"time of a call, ms": "median_ms", "extra memory of a call, MiB": "memory_mib"}
# A logarithm has no place for zero: a page of memory is the least that is drawn, in MiB.
LEAST = 2**-8
# Characters of a line of the title.
TITLE = 100


def benchmark_figure(figures: Mapping[str, Any]) -> Figure:
    """The figure of `benchmark_curves`."""
    names = list(dict.fromkeys(row["name"] for group in figures["groups"] for row in group["rows"]))
    figure = new_figure(9.0, 4.6 + 0.2 * (-(-len(names) // 3)))
    figure.suptitle(title_of(figures["conditions"]), fontsize=10, color=INK)
    panels = figure.subplots(1, len(PANELS))
    for axes, (label, field) in zip(panels, PANELS.items(), strict=True):
        draw_panel(axes, figures["groups"], field, dict(zip(names, line_colours(len(names)), strict=True)))
        axes.set_title(label, fontsize=10, color=INK, loc="left")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def title_of(conditions: Mapping[str, Any]) -> str:
    """The work, and the machine that did it, in lines that fit the figure."""
    compiled = ", compiled" if conditions["compiled"] else ""
    work = f"{conditions['work']}: {conditions['subject']}, {conditions['dtype']}{compiled}"
    threads = f"{conditions['threads']} thread{'' if conditions['threads'] == 1 else 's'}"
    machine = f"{conditions['processor']}, {threads}; medians"
    return "\n".join(line for text in (work, machine) for line in wrap(drawable(text), TITLE))


def line_colours(count: int) -> list[Any]:
    """A colour for each of some lines."""
    if count <= len(DISTINCT):
        return list(DISTINCT[:count])
    from matplotlib import colormaps

    # From dark to bright, without the pale end.
    return [colormaps["viridis"](0.9 * number / (count - 1)) for number in range(count)]


def draw_panel(axes: Axes, groups: list[Any], field: str, colours: Mapping[str, Any]) -> None:
    """Draw one line a candidate."""
    from matplotlib.ticker import LogLocator

    for number, (name, colour) in enumerate(colours.items()):
        rows = [
            (group["size"], row[field]) for group in groups for row in group["rows"] if row["name"] == name
        ]
        points = [(size, value) for size, value in rows if value is not None and value > LEAST]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                color=colour,
                marker=MARKERS[number % len(MARKERS)],
                markersize=5,
                linewidth=1.5,
                label=name,
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    sizes = sorted({group["size"] for group in groups})
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    # Within a decade, too, an axis has numbers.
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.set_xlabel("side of the map or image", fontsize=9, color=SOFT)
    axes.grid(color=GRID, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=SOFT)


def benchmark_curves(figures: Mapping[str, Any], out: str | Path) -> Path:
    """Draw time and memory of every candidate by size, both axes logarithmic, as PNG.

    Args:
        figures: what ``slideformer bench --json`` writes.
        out: the file.
    """
    return save(benchmark_figure(figures), out)
