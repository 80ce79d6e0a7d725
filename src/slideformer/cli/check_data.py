# SPDX-License-Identifier: Apache-2.0
"""`slideformer check-data`: check a data set before a training begins."""

from __future__ import annotations

import argparse
from pathlib import Path

from slideformer.console import counted, print_line
from slideformer.errors import UserError, name_options

HELP = """Report what a data set for detection or segmentation holds, and what is wrong with it.

Every image is read completely. Exit code 1 if a training could not start, else 0."""
PATHS = ("train_annotations", "val_annotations", "train_images", "val_images")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare task, folder, and where files are that are not in it."""
    parser.add_argument("task", choices=("detect", "segment"), help="what the data are for")
    parser.add_argument("data", type=Path, metavar="DIR", help="the data, as `slideformer train` takes them")
    for path in PATHS:
        side, what = path.split("_")
        parser.add_argument(
            f"--{side}-{what}",
            type=Path,
            default=None,
            metavar="FILE" if what == "annotations" else "DIR",
            help=f"detect: {what} of the {side} side, where they are elsewhere",
        )
    parser.add_argument("--no-masks", action="store_true", help="detect: boxes are enough")
    parser.add_argument(
        "--orientation",
        choices=("upright", "stored"),
        default="upright",
        help="the pixels on which annotations were drawn, where the size of an image does not show it",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the report."""
    paths = {path: getattr(arguments, path) for path in PATHS if getattr(arguments, path) is not None}
    report = counted("images")
    if arguments.task == "detect":
        from slideformer.tasks.detect.check import check_data

        findings = check_data(
            arguments.data,
            **paths,
            with_masks=not arguments.no_masks,
            orientation=arguments.orientation,
            progress=report,
        )
    else:
        from slideformer.tasks.segment.check import check_data as check_segmentation

        foreign = [*paths, *(["no_masks"] if arguments.no_masks else [])]
        if foreign:
            words = ", ".join(f"--{name.replace('_', '-')}" for name in foreign)
            raise UserError(f"these are options of detect, got {words} with segment; leave them out")
        findings = check_segmentation(arguments.data, orientation=arguments.orientation, progress=report)
    report(1, 1)
    options = {"data": "DIR"} | {name: f"--{name.replace('_', '-')}" for name in (*PATHS, "orientation")}
    for line in findings.lines():
        print_line(name_options(line, options))
    print(f"errors: {findings.errors}; {'fix them before' if findings.errors else 'ready for'} a training")
    return 1 if findings.errors else 0
