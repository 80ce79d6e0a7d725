# SPDX-License-Identifier: Apache-2.0
"""`slideformer models`: the models by name, their costs, and what the paper prints."""

from __future__ import annotations

import argparse
import json

from slideformer.errors import UserError

HELP = "list the models, and with --counts their parameters and multiply-adds next to the paper's"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which models, and how they are printed."""
    parser.add_argument("filter", nargs="?", default=None, help='such as "*_tiny"; default: all')
    parser.add_argument("--counts", action="store_true", help="count parameters and multiply-adds")
    parser.add_argument(
        "--task",
        choices=("classify", "detect", "segment"),
        default="classify",
        help="with --counts, the paper's classifiers, detectors or segmenters",
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print one line a model."""
    from slideformer.bench import zoo

    dense = arguments.task != "classify"
    if dense and not (arguments.counts and arguments.filter is None):
        raise UserError(
            "--task detect and segment print the paper's rows with --counts, all of them; "
            "add --counts and leave a filter out"
        )
    if arguments.markdown and not arguments.counts:
        raise UserError("--markdown prints the table of --counts; add --counts")
    if dense:
        rows = zoo.dense_counts(arguments.task)
    else:
        names = zoo.matching("slide_*" if arguments.filter is None else arguments.filter)
        rows = [zoo.model_counts(name) if arguments.counts else {"model": name} for name in names]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    elif arguments.counts:
        table = zoo.dense_table(arguments.task, rows) if dense else zoo.models_table(rows)
        print(table.markdown() if arguments.markdown else table.text())
    else:
        print("\n".join(row["model"] for row in rows))
    return 0
