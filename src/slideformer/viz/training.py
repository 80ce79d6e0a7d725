# SPDX-License-Identifier: Apache-2.0
"""How a run went: loss, accuracy and learning rate over its steps."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from slideformer.errors import UserError
from slideformer.viz.figure import COLOURS, GRID, INK, SOFT, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Panel -> the columns of metrics.csv it shows, by their names in the image, and their factor.
PANELS = {
    "loss": {"train/loss": ("training", 1.0), "val/loss": ("hold-out", 1.0)},
    "accuracy on the hold-out, %": {"val/top1": ("top-1", 100.0), "val/top5": ("top-5", 100.0)},
    "agreement with the teacher on the hold-out, %": {
        "val/agreement": ("top-1", 100.0),
        "val/agreement5": ("top-5", 100.0),
    },
    "AP on the hold-out, %": {
        "val/box_AP": ("box AP", 100.0),
        "val/box_AP50": ("box AP50", 100.0),
        "val/mask_AP": ("mask AP", 100.0),
        "val/mask_AP50": ("mask AP50", 100.0),
    },
    "mIoU on the hold-out, %": {"val/miou": ("", 100.0)},
    "learning rate": {"lr": ("", 1.0)},
}
# Up to so many points each is marked: a line of one point is not seen.
MARKED = 40


def read_metrics(path: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Steps and values of every column that has values; columns ``lr-...`` are one, ``lr``."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; give the metrics.csv of a run") from error
    series: dict[str, tuple[list[float], list[float]]] = {}
    for row in table:
        seen = set()
        for column, text in row.items():
            # Every group of parameters has its rate; without a decay by layer they are equal.
            name = "lr" if column.startswith("lr-") else column
            if text and name not in seen and row.get("step"):
                seen.add(name)
                steps, values = series.setdefault(name, ([], []))
                steps.append(float(row["step"]))
                values.append(float(text))
    return series


def training_figure(metrics_csv: str | Path) -> Figure:
    """The figure of `training_curves`."""
    series = read_metrics(Path(metrics_csv))
    if "train/loss" not in series:
        raise UserError(f"{metrics_csv} must have the column train/loss, got {', '.join(series) or 'none'}")
    shown = {title: columns for title, columns in PANELS.items() if series.keys() & columns.keys()}
    figure = new_figure(4.0 * len(shown), 3.0)
    for axes, (title, columns) in zip(
        figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True
    ):
        drawn = [column for column in columns if column in series]
        for colour, column in zip(COLOURS, drawn, strict=False):
            label, factor = columns[column]
            steps, values = series[column]
            axes.plot(
                steps,
                [factor * value for value in values],
                color=colour,
                linewidth=1.6,
                marker="o" if len(steps) <= MARKED else None,
                markersize=3,
                label=label,
            )
        only = columns[drawn[0]][0] if len(drawn) == 1 else ""
        axes.set_title(f"{title}, {only}" if only else title, fontsize=10, color=INK, loc="left")
        axes.set_xlabel("update of the weights", fontsize=9, color=SOFT)
        axes.grid(color=GRID, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, colors=SOFT)
        axes.ticklabel_format(axis="y", scilimits=(-2, 5), useMathText=True)
        if len(drawn) > 1:
            axes.legend(fontsize=8, frameon=False)
    return figure


def training_curves(metrics_csv: str | Path, out: str | Path) -> Path:
    """Draw the curves of a run as PNG.

    Args:
        metrics_csv: the run's ``metrics.csv``.
        out: the file.

    Raises:
        UserError: there is no such file, or no training loss in it.
    """
    return save(training_figure(metrics_csv), out)
