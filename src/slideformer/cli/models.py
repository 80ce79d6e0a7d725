# SPDX-License-Identifier: Apache-2.0
"""`slideformer models`: the models by name, what they cost, and what the paper prints."""

from __future__ import annotations

import argparse
import json
from typing import Any

HELP = "list the models, and with --counts their parameters and multiply-adds beside the paper's"
COLUMNS = ("model", "params M", "merged M", "GMACs", "paper M", "off %", "paper G", "off %", "paper top-1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which models, and how they are printed."""
    parser.add_argument("filter", nargs="?", default="slide_*", help='such as "*_tiny" (default: all)')
    parser.add_argument("--counts", action="store_true", help="count parameters and multiply-adds")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print one line a model."""
    import timm

    import slideformer.models as models  # registers them
    from slideformer.errors import UserError

    every = timm.list_models("slide_*")
    names = [name for name in timm.list_models(arguments.filter) if name in every]
    if not names:
        raise UserError(f"no model fits {arguments.filter!r}; there are {', '.join(every)}")
    rows = [describe(name, models) if arguments.counts else {"model": name} for name in names]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    elif arguments.counts:
        print(table([COLUMNS, *(cells(row) for row in rows)]))
        print(
            "\nGMACs: 1e9 multiply-adds for one image of the model's own size, merged, as the paper counts."
        )
        for row in rows:
            if row.get("paper_note"):
                print(f"{row['model']}: {row['paper_note']}")
    else:
        print("\n".join(names))
    return 0


def describe(name: str, models: Any) -> dict[str, Any]:
    """Counts of one model and the paper's row, if it has one."""
    counts, paper = models.count(name), models.PUBLISHED.get(name)
    row: dict[str, Any] = {
        "model": name,
        "parameters": counts.parameters,
        "merged_parameters": counts.merged_parameters,
        "multiply_adds": counts.multiply_adds,
    }
    if paper is None:
        return row
    if paper.parameters_m is not None:
        row["paper_parameters_m"] = paper.parameters_m
        row["parameters_off_percent"] = 100 * (counts.parameters / 1e6 / paper.parameters_m - 1)
    return {
        **row,
        "paper_multiply_adds_g": paper.multiply_adds_g,
        "multiply_adds_off_percent": 100 * (counts.multiply_adds / 1e9 / paper.multiply_adds_g - 1),
        "paper_top1": paper.top1,
        "paper_note": paper.note,
    }


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """One row of the printed table."""
    own = tuple(
        f"{row[key] / scale:.3f}"
        for key, scale in (("parameters", 1e6), ("merged_parameters", 1e6), ("multiply_adds", 1e9))
    )
    paper = (
        format(row[key], form) if key in row else "-"
        for key, form in (
            ("paper_parameters_m", "g"),
            ("parameters_off_percent", "+.1f"),
            ("paper_multiply_adds_g", "g"),
            ("multiply_adds_off_percent", "+.1f"),
            ("paper_top1", ".1f"),
        )
    )
    return (row["model"], *own, *paper)


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows as text, first column to the left and numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    )
