# SPDX-License-Identifier: Apache-2.0
"""`slideformer check-data`: check a data set before a training begins."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from slideformer.console import counted, print_line
from slideformer.errors import UserError, name_options

HELP = """Report what a data set holds, and what is wrong with it, before a training.

Every image is read completely. Exit code 1 if a training could not start, else 0."""
PATHS = ("train_annotations", "val_annotations", "train_images", "val_images")
# Task -> the arguments of its check that are options of the command.
TAKEN: dict[str, tuple[str, ...]] = {
    "classify": ("val_fraction",),
    "detect": (*PATHS, "with_masks", "orientation"),
    "segment": ("orientation",),
}
OPTIONS = {name: f"--{name.replace('_', '-')}" for name in (*PATHS, "orientation", "val_fraction")}
OPTIONS["with_masks"] = "--no-masks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare task, folder, and the options of one task or another."""
    parser.add_argument("task", choices=tuple(TAKEN), help="what the data are for")
    parser.add_argument("data", type=Path, metavar="DIR", help="the data, as `slideformer train` takes them")
    parser.add_argument(
        OPTIONS["val_fraction"],
        type=float,
        metavar="PART",
        help="classify: the part of each class that is to be held out, where DIR has no train/ and val/",
    )
    for path in PATHS:
        side, what = path.split("_")
        parser.add_argument(
            OPTIONS[path],
            type=Path,
            metavar="FILE" if what == "annotations" else "DIR",
            help=f"detect: {what} of the {side} side, where they are elsewhere",
        )
    parser.add_argument(
        OPTIONS["with_masks"],
        dest="with_masks",
        action="store_false",
        default=None,
        help="detect: boxes are enough",
    )
    parser.add_argument(
        OPTIONS["orientation"],
        choices=("upright", "stored"),
        help="detect, segment: the pixels on which annotations were drawn, where the size of an image does "
        "not show it; default: upright",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the report."""
    task, report = arguments.task, counted("images")
    given = {name: getattr(arguments, name) for name in OPTIONS if getattr(arguments, name) is not None}
    for name in given:
        if name not in TAKEN[task]:
            takers = " and ".join(other for other, taken in TAKEN.items() if name in taken)
            raise UserError(f"{OPTIONS[name]} is an option of {takers}, got it with {task}; leave it out")
    check = import_module(f"slideformer.tasks.{task}.check")
    findings = check.check_data(arguments.data, progress=report, **given)
    report(1, 1)
    for line in findings.lines():
        print_line(name_options(line, {"data": "DIR", **OPTIONS}))
    print(f"errors: {findings.errors}; {'fix them before' if findings.errors else 'ready for'} a training")
    return 1 if findings.errors else 0
