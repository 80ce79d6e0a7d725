# SPDX-License-Identifier: Apache-2.0
"""`slideformer predict`: what a trained model sees in pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from slideformer.cli import tasks
from slideformer.cli.evaluate import add_window
from slideformer.cli.ranges import real, whole

HELP = (
    "Of a classifier class names and probabilities, on the screen; of a detector boxes, masks and scores, of "
    "a segmenter a class for every pixel, drawn on the pictures and written as files."
)
# Options that only one task has.
OWN = {
    "classify": ("top",),
    "detect": ("score",),
    "segment": ("window", "stride"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare run, pictures and form of the answer."""
    parser.add_argument("run", type=Path, help="folder of a finished run, or any of timm's local-dir folders")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="picture, folder of pictures, or quoted glob"
    )
    parser.add_argument(
        "--on-bad-image", choices=("skip", "stop"), default="skip", help="unreadable pictures"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument(
        "--output",
        type=Path,
        default=None,
        help="detectors, segmenters: folder of what is drawn; RUN/predictions if not given",
    )
    parser.add_argument(
        "--top", type=whole(1, 10**6), help="classifiers: how many classes to tell; 5 if not given"
    )
    parser.add_argument(
        "--score", type=real(0, 1), help="detectors: the least score that is told; 0.5 if not given"
    )
    add_window(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print a line a picture, and write what is drawn."""
    return int(tasks.of_run(arguments.run, arguments, OWN).predict(arguments))
