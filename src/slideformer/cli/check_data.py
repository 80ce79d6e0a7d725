# SPDX-License-Identifier: Apache-2.0
"""`slideformer check-data`: a look at all of a data set before a training begins."""

from __future__ import annotations

import argparse
from pathlib import Path

from slideformer.cli.tasks import find_check
from slideformer.console import print_line
from slideformer.errors import UserError

HELP = """What a data set for detection or segmentation holds, and what is wrong with it.

Every picture is read whole. Exit code 1 if a training could not start, else 0."""
PATHS = ("train_annotations", "val_annotations", "train_images", "val_images")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare task, folder and where things lie that do not lie in it."""
    parser.add_argument("task", choices=("detect", "segment"), help="what the data are for")
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="the data, as `slideformer train` takes them"
    )
    for path in PATHS:
        side, what = path.split("_")
        parser.add_argument(
            f"--{side}-{what}",
            type=Path,
            default=None,
            metavar="FILE" if what == "annotations" else "DIR",
            help=f"detect: {what} of the {side} side, where they lie elsewhere",
        )
    parser.add_argument("--no-masks", action="store_true", help="detect: boxes are enough")
    parser.add_argument(
        "--orientation",
        choices=("upright", "stored"),
        default="upright",
        help="on which pixels annotations were drawn, where the size of a picture does not show it",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the report."""
    from slideformer.cli.measuring import progress

    options = {path: getattr(arguments, path) for path in PATHS}
    options = {path: value for path, value in options.items() if value is not None}
    if arguments.no_masks:
        options["with_masks"] = False
    if options and arguments.task != "detect":
        raise UserError(
            f"options of detect must go with detect, got {', '.join(options)} with {arguments.task}; leave "
            "them out"
        )
    check_data = find_check(arguments.task)
    findings = check_data(
        arguments.folder,
        **options,
        orientation=arguments.orientation,
        progress=lambda done, total: progress(f"{done} of {total} pictures"),
    )
    progress("")
    for line in findings.lines():
        print_line(line)
    print(f"errors: {findings.errors}; {'mend them before' if findings.errors else 'ready for'} a training")
    return 1 if findings.errors else 0
