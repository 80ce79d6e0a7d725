# SPDX-License-Identifier: Apache-2.0
"""Our models counted: parameters and multiply-adds, compared with what the paper prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import timm

from slideformer.bench.table import Table
from slideformer.dense.counts import (
    ADE_SIZE,
    COCO_SIZE,
    PUBLISHED_DETECTORS,
    PUBLISHED_SEGMENTERS,
    DenseCounts,
    PublishedDense,
    count_detector,
    count_segmenter,
)
from slideformer.errors import UserError
from slideformer.models import PUBLISHED, count

# Counts of a model and the paper's, plain values by name, as `slideformer models --json` prints them.
Row = dict[str, Any]

CONDITIONS = (
    "Multiply-adds (1e9) are those of one image of the model's own size, merged, as the paper counts; "
    "*: the plain host's."
)


def matching(pattern: str) -> list[str]:
    """Names of our models that fit a pattern such as ``*_tiny``."""
    every = timm.list_models("slide_*")
    names = [name for name in timm.list_models(pattern) if name in every]
    if not names:
        raise UserError(f"no model fits {pattern!r}; there are {', '.join(every)}")
    return names


def model_counts(name: str) -> Row:
    """Counts of one model, and the paper's row if it has one.

    Figures that the paper prints of a plain host are compared with the plain host.
    """
    counts, paper = count(name), PUBLISHED.get(name)
    row: Row = {
        "model": name,
        "parameters": counts.parameters,
        "merged_parameters": counts.merged_parameters,
        "multiply_adds": counts.multiply_adds,
    }
    if paper is None:
        return row
    if paper.of_host:
        counts = count(timm.create_model(name, slide_stages=()))
    if paper.parameters_m is not None:
        row["paper_parameters_m"] = paper.parameters_m
        row["parameters_off_percent"] = 100 * (counts.parameters / 1e6 / paper.parameters_m - 1)
    return {
        **row,
        "paper_multiply_adds_g": paper.multiply_adds_g,
        "multiply_adds_off_percent": 100 * (counts.multiply_adds / 1e9 / paper.multiply_adds_g - 1),
        "paper_top1": paper.top1,
        "paper_note": paper.note,
        "paper_of_host": paper.of_host,
    }


def number(key: str, form: str, scale: float = 1.0) -> Callable[[Row], str]:
    """A cell that shows one number of a row, or a dash where it has none."""
    return lambda row: "-" if row.get(key) is None else format(row[key] / scale, form)


MODELS: dict[str, Callable[[Row], str]] = {
    "model": lambda row: row["model"],
    "parameters M": number("parameters", ".3f", 1e6),
    "merged M": number("merged_parameters", ".3f", 1e6),
    "multiply-adds G": number("multiply_adds", ".3f", 1e9),
    "paper M": number("paper_parameters_m", "g"),
    "M off %": number("parameters_off_percent", "+.1f"),
    "paper G": number("paper_multiply_adds_g", "g"),
    "G off %": number("multiply_adds_off_percent", "+.1f"),
    "paper top-1": lambda row: number("paper_top1", ".1f")(row) + ("*" if row.get("paper_of_host") else ""),
}


def models_table(rows: Sequence[Row]) -> Table:
    """One line a classifier, from `model_counts`."""
    cells = [[cell(row) for cell in MODELS.values()] for row in rows]
    notes = [f"{row['model']}: {row['paper_note']}." for row in rows if row.get("paper_note")]
    return Table(list(MODELS), cells, CONDITIONS, notes)


@dataclass(frozen=True)
class DenseTask:
    """A dense task whose models the paper counts.

    Attributes:
        published: the paper's rows.
        count: counts a head over a backbone with options of the backbone.
        conditions: of the figures, in a sentence.
    """

    published: Sequence[PublishedDense]
    count: Callable[..., DenseCounts]
    conditions: str


DENSE_TASKS = {
    "detect": DenseTask(
        PUBLISHED_DETECTORS,
        count_detector,
        f"Multiply-adds (1e9) are those of one image of {COCO_SIZE[0]} x {COCO_SIZE[1]}, with 1000 proposals "
        "through each box head and 100 through each mask head; parameters with COCO's 80 classes.",
    ),
    "segment": DenseTask(
        PUBLISHED_SEGMENTERS,
        count_segmenter,
        f"Multiply-adds (1e9) are those of one image of {ADE_SIZE[0]} x {ADE_SIZE[1]}; parameters "
        "with ADE20K's 150 classes and, of UperNet, with the auxiliary head that is training-only.",
    ),
}


def dense_counts(task: str) -> list[Row]:
    """Counts of the paper's models of a dense task, a name in `DENSE_TASKS`, and the paper's own."""
    row = DENSE_TASKS[task]
    return [dense_row(row, published) for published in row.published]


def dense_row(task: DenseTask, published: PublishedDense) -> Row:
    """Counts of one model, and the paper's."""
    options = {"slide_stages": ()} if published.host else {}
    counts = task.count(published.head, published.backbone, options=options)
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


DENSE: dict[str, Callable[[Row], str]] = {
    "head": lambda row: str(row["head"]),
    "backbone": lambda row: row["backbone"] + (", plain host" if row["host"] else ""),
    "parameters M": number("parameters", ".2f", 1e6),
    "paper M": number("paper_parameters_m", "g"),
    "M off": number("parameters_off_m", "+.2f"),
    "multiply-adds G": number("multiply_adds", ".1f", 1e9),
    "of the backbone": lambda row: f"{row['parts']['backbone'] / 1e9:.1f}",
    "paper G": number("paper_multiply_adds_g", "g"),
    "G off %": number("multiply_adds_off_percent", "+.1f"),
    "the paper's accuracy": lambda row: (
        ", ".join(f"{name} {value:g}" for name, value in row["paper_accuracy"].items()) or "-"
    ),
}


def dense_table(task: str, rows: Sequence[Row]) -> Table:
    """One line a model of a dense task, from `dense_counts`."""
    cells = [[cell(row) for cell in DENSE.values()] for row in rows]
    remarks = dict.fromkeys((row["head"], row["note"]) for row in rows)
    notes = [f"{head}: {note}." for head, note in remarks if note]
    return Table(list(DENSE), cells, DENSE_TASKS[task].conditions, notes)
