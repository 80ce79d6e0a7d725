# SPDX-License-Identifier: Apache-2.0
"""`slideformer models`: the models by name, what they cost, and what the paper prints."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from slideformer.cli.dense_models import TABLES, report
from slideformer.errors import UserError

HELP = "list the models, and with --counts their parameters and multiply-adds beside the paper's"
CONDITIONS = (
    "Multiply-adds (1e9) are those of one image of the model's own size, merged, as the paper counts; "
    "*: the plain host's."
)
# What is known of a model, as `describe` gives it.
Row = dict[str, Any]


def number(key: str, form: str, scale: float = 1.0) -> Callable[[Row], str]:
    """A cell that shows one number of a row, or a dash where it has none."""
    return lambda row: "-" if row.get(key) is None else format(row[key] / scale, form)


def top1(row: Row) -> str:
    """The paper's accuracy, with a star where it is the plain host's."""
    return number("paper_top1", ".1f")(row) + ("*" if row.get("paper_of_host") else "")


COLUMNS: dict[str, Callable[[Row], str]] = {
    "model": lambda row: row["model"],
    "parameters M": number("parameters", ".3f", 1e6),
    "merged M": number("merged_parameters", ".3f", 1e6),
    "multiply-adds G": number("multiply_adds", ".3f", 1e9),
    "paper M": number("paper_parameters_m", "g"),
    "M off %": number("parameters_off_percent", "+.1f"),
    "paper G": number("paper_multiply_adds_g", "g"),
    "G off %": number("multiply_adds_off_percent", "+.1f"),
    "paper top-1": top1,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which models, and how they are printed."""
    parser.add_argument("filter", nargs="?", default=None, help='such as "*_tiny"; all if not given')
    parser.add_argument("--counts", action="store_true", help="count parameters and multiply-adds")
    parser.add_argument(
        "--task",
        choices=("classify", *TABLES),
        default="classify",
        help="with --counts, the paper's classifiers, detectors or segmenters",
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print one line a model."""
    if arguments.task != "classify":
        return run_dense(arguments)
    names = matching("slide_*" if arguments.filter is None else arguments.filter)
    if arguments.markdown and not arguments.counts:
        raise UserError("--markdown prints the table of --counts; add --counts")
    rows = [describe(name) if arguments.counts else {"model": name} for name in names]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    elif arguments.markdown:
        print(markdown(rows))
    elif arguments.counts:
        print(text(rows))
    else:
        print("\n".join(names))
    return 0


def run_dense(arguments: argparse.Namespace) -> int:
    """Print the table of a dense task.

    Raises:
        UserError: it is asked for something else.
    """
    if not arguments.counts or arguments.filter is not None:
        raise UserError(
            "--task detect and segment print the paper's rows with --counts, all of them; "
            "add --counts and leave a filter out"
        )
    print(report(arguments.task, "json" if arguments.json else "markdown" if arguments.markdown else "text"))
    return 0


def matching(pattern: str) -> list[str]:
    """Names of our models that fit a pattern such as ``*_tiny``.

    Raises:
        UserError: none does.
    """
    import timm

    import slideformer.models  # noqa: F401  (registers them)

    every = timm.list_models("slide_*")
    names = [name for name in timm.list_models(pattern) if name in every]
    if not names:
        raise UserError(f"no model fits {pattern!r}; there are {', '.join(every)}")
    return names


def describe(name: str) -> Row:
    """Counts of one model, and the paper's row if it has one.

    What the paper prints of a plain host is compared with the plain host.
    """
    import timm

    import slideformer.models as models

    counts, paper = models.count(name), models.PUBLISHED.get(name)
    row: Row = {
        "model": name,
        "parameters": counts.parameters,
        "merged_parameters": counts.merged_parameters,
        "multiply_adds": counts.multiply_adds,
    }
    if paper is None:
        return row
    if paper.of_host:
        counts = models.count(timm.create_model(name, slide_stages=()))
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


def lines(rows: Sequence[Row], columns: Sequence[str]) -> list[list[str]]:
    """Headings, then one line a model."""
    return [list(columns), *([COLUMNS[name](row) for name in columns] for row in rows)]


def notes(rows: Sequence[Row]) -> list[str]:
    """One line for each model of whose figures there is something to say."""
    return [f"{row['model']}: {row['paper_note']}." for row in rows if row.get("paper_note")]


def text(rows: Sequence[Row]) -> str:
    """An aligned table for a terminal, its notes below."""
    from slideformer.bench.report import aligned

    return "\n".join([*aligned(lines(rows, tuple(COLUMNS))), "", CONDITIONS, *notes(rows)])


def markdown(rows: Sequence[Row], columns: Sequence[str] = tuple(COLUMNS)) -> str:
    """A table for a page; with all columns its notes below."""
    from slideformer.bench.report import piped

    remarks = [f"- {note}" for note in notes(rows)] if len(columns) == len(COLUMNS) else []
    conditions = CONDITIONS.replace("*:", "\\*:")
    table = [line.replace("*", "\\*") for line in piped(lines(rows, columns))]
    return "\n".join([*table, "", conditions, *([""] if remarks else []), *remarks])
