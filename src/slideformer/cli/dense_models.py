# SPDX-License-Identifier: Apache-2.0
"""The table of `slideformer models --counts --task`: dense models of the paper, ours beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slideformer.models.dense.counts import DenseCounts, PublishedDense

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """What is counted for a task.

    Attributes:
        rows: what the paper prints.
        count: counts a head over a backbone with options of the backbone.
        conditions: of the figures, in a sentence.
    """

    rows: Sequence[PublishedDense]
    count: Callable[[str, str, dict[str, Any]], DenseCounts]
    conditions: str


def detectors() -> Table:
    """COCO's detectors."""
    from slideformer.models.dense.detector_counts import PUBLISHED_DETECTORS, SIZE, count_detector

    return Table(
        PUBLISHED_DETECTORS,
        lambda head, backbone, options: count_detector(head, backbone, options=options),
        f"Multiply-adds (1e9) are those of one picture of {SIZE[0]} x {SIZE[1]}, with 1000 proposals through "
        "each box head and 100 through each mask head; parameters with COCO's 80 classes.",
    )


def segmenters() -> Table:
    """ADE20K's segmenters."""
    from slideformer.models.dense.segmenter_counts import HEIGHT_WIDTH, PUBLISHED_SEGMENTERS, count_segmenter

    return Table(
        PUBLISHED_SEGMENTERS,
        lambda head, backbone, options: count_segmenter(head, backbone, options=options),
        f"Multiply-adds (1e9) are those of one picture of {HEIGHT_WIDTH[0]} x {HEIGHT_WIDTH[1]}; parameters "
        "with ADE20K's 150 classes and, of UperNet, with the auxiliary head that only training has.",
    )


TABLES: dict[str, Callable[[], Table]] = {"detect": detectors, "segment": segmenters}

COLUMNS: dict[str, Callable[[Row], str]] = {
    "head": lambda row: str(row["head"]),
    "backbone": lambda row: row["backbone"] + (", plain host" if row["host"] else ""),
    "parameters M": lambda row: f"{row['parameters'] / 1e6:.2f}",
    "paper M": lambda row: f"{row['paper_parameters_m']:g}",
    "M off": lambda row: f"{row['parameters_off_m']:+.2f}",
    "multiply-adds G": lambda row: f"{row['multiply_adds'] / 1e9:.1f}",
    "of the backbone": lambda row: f"{row['parts']['backbone'] / 1e9:.1f}",
    "paper G": lambda row: f"{row['paper_multiply_adds_g']:g}",
    "G off %": lambda row: f"{row['multiply_adds_off_percent']:+.1f}",
    "the paper's accuracy": lambda row: (
        ", ".join(f"{k} {x:g}" for k, x in row["paper_accuracy"].items()) or "-"
    ),
}


def describe(table: Table, published: PublishedDense) -> Row:
    """Counts of one model beside the paper's."""
    options: dict[str, Any] = {"slide_stages": ()} if published.host else {}
    counts = table.count(published.head, published.backbone, options)
    return {
        "head": published.head,
        "backbone": published.backbone,
        "host": published.host,
        "parameters": counts.parameters,
        "multiply_adds": counts.total,
        "parts": counts.multiply_adds,
        "paper_parameters_m": published.parameters_m,
        "paper_multiply_adds_g": published.multiply_adds_g,
        "parameters_off_m": counts.parameters / 1e6 - published.parameters_m,
        "multiply_adds_off_percent": 100 * (counts.total / 1e9 / published.multiply_adds_g - 1),
        "paper_accuracy": published.accuracy,
        "note": published.note,
    }


def report(task: str, form: str) -> str:
    """The table of a task.

    Args:
        task: a name in `TABLES`.
        form: ``"text"``, ``"markdown"`` or ``"json"``.
    """
    from slideformer.bench.report import aligned, piped

    table = TABLES[task]()
    rows = [describe(table, published) for published in table.rows]
    if form == "json":
        return json.dumps(rows, indent=2)
    lines = [list(COLUMNS), *([cell(row) for cell in COLUMNS.values()] for row in rows)]
    notes = [f"{head}: {note}." for head, note in dict.fromkeys((r["head"], r["note"]) for r in rows) if note]
    if form == "markdown":
        return "\n".join(
            [*piped(lines), "", table.conditions, *([""] if notes else []), *(f"- {x}" for x in notes)]
        )
    return "\n".join([*aligned(lines), "", table.conditions, *notes])
