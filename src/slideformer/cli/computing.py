# SPDX-License-Identifier: Apache-2.0
"""Options that the verbs which apply a model to many images share: where and how it computes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal, TypedDict

from slideformer.cli.ranges import DTYPES, whole

RUN = "folder of a finished run, or one in timm's local-dir format; or an exported .onnx or .xml file"


class Computing(TypedDict):
    """The arguments of `slideformer.predict` and `slideformer.evaluate` that the options give."""

    device: str
    batch_size: int | None
    num_workers: int | Literal["auto"]
    precision: str | None


def add_computing(parser: argparse.ArgumentParser) -> None:
    """Declare device, precision, batch and reading."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="where to compute; auto: the GPU that is here, else the CPU",
    )
    parser.add_argument(
        "--precision",
        choices=DTYPES,
        help="number format of matrix products; default: float32, of an exported file its own",
    )
    parser.add_argument("--batch-size", type=whole(1, 4096), help="images a batch; default: the task's own")
    parser.add_argument(
        "--workers",
        dest="num_workers",
        type=whole(0, 256),
        help="processes that read images; 0: read in the command's own process; default: one a core, at most "
        "8, for 64 images or more",
    )
    parser.add_argument("--on-bad-image", choices=("skip", "stop"), default="skip", help="unreadable images")


def computing_of(arguments: argparse.Namespace) -> Computing:
    """The values of the options of `add_computing`, those of unreadable images excepted."""
    return {
        "device": arguments.device,
        "batch_size": arguments.batch_size,
        # The command's main file is guarded, so that it may start processes on any platform.
        "num_workers": "auto" if arguments.num_workers is None else arguments.num_workers,
        "precision": arguments.precision,
    }


def results_folder(run: Path) -> Path:
    """Where results go by default: into the folder of the run, or next to an exported file."""
    return run.with_name(f"{run.name}.results") if run.is_file() else run
