# SPDX-License-Identifier: Apache-2.0
"""`slideformer evaluate`: how good a trained model is on data whose answers are known."""

from __future__ import annotations

import argparse
from pathlib import Path

from slideformer.cli import tasks
from slideformer.cli.ranges import whole
from slideformer.errors import UserError

HELP = (
    "Of a classifier top-1, top-5, a table by class and the confusion of classes; of a detector COCO's "
    "table; of a segmenter mIoU, mAcc, aAcc and a table by class. Written as evaluation.json, too."
)
# Options that only one task has.
OWN = {
    "detect": ("annotations", "images"),
    "segment": ("window", "stride"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare run, data and what to do with bad images."""
    parser.add_argument("run", type=Path, help="folder of a finished run, or any of timm's local-dir folders")
    parser.add_argument(
        "--data", required=True, help="what the run was trained on, or other data of that form"
    )
    parser.add_argument(
        "--batch-size", type=whole(1, 4096), help="images a batch; the task's own if not given"
    )
    parser.add_argument("--num-workers", type=whole(0, 256), default=0, help="processes that read images")
    parser.add_argument("--on-bad-image", choices=("skip", "stop"), default="skip", help="unreadable images")
    parser.add_argument(
        "--output", type=Path, default=None, help="folder of the results; the run's if not given"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    detection = parser.add_argument_group("of detectors")
    detection.add_argument(
        "--annotations", default=None, help="COCO file of the hold-out, where DATA does not tell"
    )
    detection.add_argument("--images", default=None, help="folder of its pictures")
    add_window(parser)


def add_window(parser: argparse.ArgumentParser) -> None:
    """Declare how a segmenter goes over a large picture."""
    segmentation = parser.add_argument_group("of segmenters")
    segmentation.add_argument(
        "--window",
        type=whole(1, 65536),
        default=None,
        help="side in pixels of a window that slides; whole pictures if not given",
    )
    segmentation.add_argument(
        "--stride",
        type=whole(1, 65536),
        default=None,
        help="pixels from one window to the next; two thirds of a window if not given",
    )


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print, write."""
    task = tasks.of_run(arguments.run, arguments, OWN)
    folder = arguments.run if arguments.output is None else arguments.output
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output must be a folder, got the file {folder}; choose another place")
    return int(task.evaluate(arguments, folder))
