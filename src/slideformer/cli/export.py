# SPDX-License-Identifier: Apache-2.0
"""`slideformer export`: write a model for other runtimes, checked there."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from slideformer.cli.ranges import PRECISIONS, side_lengths, whole
from slideformer.cli.ranges import RUNTIMES as NAMES
from slideformer.console import print_line, progress
from slideformer.errors import UserError

if TYPE_CHECKING:
    from slideformer.runs import Run

HELP = """Write a model for other runtimes, with merged weights, and check it there.

Classifiers and segmenters for every runtime; detectors for onnx and openvino, one image of any size. Files
for onnx, openvino and torch take any batch, height and width; those for executorch, coreml and coreai, and
for openvino in int8, one image of --size. The page in web/ looks inside an onnx file that was written
--with attention."""


@dataclass(frozen=True)
class Target:
    """One file that was asked for."""

    runtime: str
    precision: str
    size: tuple[int, int]
    file: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare model, runtimes, precisions, sizes and images."""
    parser.add_argument(
        "model", metavar="RUN|MODEL", help="folder of a finished run, or a model's name (random weights)"
    )
    parser.add_argument("--to", choices=NAMES, nargs="+", required=True, help="runtimes")
    parser.add_argument(
        "--precision", choices=PRECISIONS, nargs="+", default=("float32",), help="of weights and products"
    )
    parser.add_argument(
        "--size",
        type=side_lengths,
        nargs="+",
        default=None,
        metavar="HxW",
        help="of the image to trace with, or that a file of fixed size takes; default: the model's own",
    )
    parser.add_argument(
        "--fixed", action="store_true", help="take only one image of --size, which some runtimes run faster"
    )
    parser.add_argument(
        "--with",
        choices=("attention",),
        dest="attention",
        help="also give each layer's attention weights, for the page in web/; onnx, float32, no detectors",
    )
    parser.add_argument(
        "--calibrate",
        nargs="+",
        default=(),
        metavar="IMAGES",
        help="files, folders, globs or `digits`: like those that the model will get, for int8",
    )
    parser.add_argument(
        "--images",
        "--pictures",
        nargs="+",
        default=(),
        metavar="IMAGES",
        help="to check with, three at most; default: photographs",
    )
    parser.add_argument(
        "--output", type=Path, default=None, help="the file, of a single one; default: RUN/model.onnx"
    )
    parser.add_argument("--num-classes", type=whole(1, 100_000), help="classes of a model given by name")


def run(arguments: argparse.Namespace) -> int:
    """Export, check, print; the first file that does not pass ends it."""
    from slideformer.deploy import RUNTIMES, export
    from slideformer.deploy.export import check_target
    from slideformer.deploy.inputs import CALIBRATION, CHECKED, read_images

    opened = open_model(arguments.model, arguments.num_classes)
    if opened.random:
        print_line(f"{arguments.model} with random weights: for its speed, not for its answers")
    targets = list(wanted(arguments, opened))
    images = read_images(arguments.images, CHECKED, print_line)
    calibrate = read_images(arguments.calibrate, CALIBRATION, print_line) if arguments.calibrate else []
    attention = arguments.attention is not None
    for target in targets:  # before minutes are spent on the first of them
        row = RUNTIMES[target.runtime]
        check_target(row, target.file, opened.task, target.precision, bool(calibrate), attention)
    for target in targets:
        progress(f"{target.file}: {target.runtime}, {target.precision}")
        report = export(
            opened,
            target.runtime,
            target.file,
            precision=target.precision,
            size=target.size,
            fixed=arguments.fixed,
            calibrate=calibrate,
            images=images,
            attention=attention,
        )
        progress("")
        print(report)
        print_line(f"written: {report.file} ({report.file_mib:.1f} MiB)")
    return 0


def open_model(name: str, num_classes: int | None = None) -> Run:
    """The run in a folder, or a named model with random weights."""
    from slideformer.runs import named_run, open_run

    if not Path(name).exists():
        return named_run(name, num_classes)
    if num_classes is not None:
        raise UserError(
            "--num-classes goes with a model's name; the classes of a run are known, leave it out"
        )
    return open_run(name)


def wanted(arguments: argparse.Namespace, opened: Run) -> Iterator[Target]:
    """Every file that was asked for."""
    from slideformer.deploy import RUNTIMES, default_file

    sizes = arguments.size or [opened.input_size[1:]]
    rows = list(product(dict.fromkeys(arguments.to), dict.fromkeys(arguments.precision), sizes))
    output = arguments.output
    if output is not None and len(rows) > 1:
        raise UserError(f"--output names one file, got {len(rows)} to write; leave it out, or export one")
    if output is not None and output.is_dir() and output.suffix != RUNTIMES[rows[0][0]].suffix:
        raise UserError(f"--output must be a file, got the folder {output}; add a name such as model.onnx")
    for runtime, precision, side in rows:
        file = default_file(opened, runtime, precision, side if len(sizes) > 1 else None)
        yield Target(runtime, precision, side, file if output is None else output)
