# SPDX-License-Identifier: Apache-2.0
"""`slideformer export`: a model for other runtimes, checked there."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from slideformer.cli.exported import mebibytes, report_table
from slideformer.cli.measuring import progress
from slideformer.cli.ranges import PRECISIONS, side_lengths, whole
from slideformer.cli.ranges import RUNTIMES as NAMES
from slideformer.console import print_line
from slideformer.errors import UserError

if TYPE_CHECKING:
    from slideformer.cli.source import Source

HELP = """Write a model for other runtimes, with merged weights, and check it there.

Classifiers and segmenters for every runtime; of the detectors retinanet for onnx. Files for onnx, openvino
and torch take any batch, height and width; those for executorch and coreml, and for openvino in int8, one
picture of --size."""


@dataclass(frozen=True)
class Target:
    """One file that was asked for."""

    runtime: str
    precision: str
    size: tuple[int, int, int]
    file: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare model, runtimes, precisions, sizes and pictures."""
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
        help="of the picture to trace with, or that a file of fixed size takes; the model's own if not given",
    )
    parser.add_argument(
        "--fixed", action="store_true", help="for one picture of --size alone, which some runtimes run faster"
    )
    parser.add_argument(
        "--calibrate",
        nargs="+",
        default=(),
        metavar="PICTURES",
        help="files, folders, globs or `digits`: like what the model will see, for int8",
    )
    parser.add_argument(
        "--pictures",
        nargs="+",
        default=(),
        metavar="PICTURES",
        help="to check with, three at most; photographs if not given",
    )
    parser.add_argument(
        "--output", type=Path, default=None, help="file, where it is but one; RUN/model.onnx or MODEL.onnx"
    )
    parser.add_argument("--num-classes", type=whole(1, 100_000), help="classes of a model given by name")


def run(arguments: argparse.Namespace) -> int:
    """Export, check, print; the first file that does not pass ends it."""
    from slideformer.cli import inputs
    from slideformer.cli.source import open_source
    from slideformer.deploy import RUNTIMES, export
    from slideformer.deploy.export import refuse

    source = open_source(arguments.model, arguments.num_classes)
    if "source" in source.facts:
        print_line(f"{arguments.model} with random weights: for its speed, not for its answers")
    targets = list(wanted(arguments, source))
    images = inputs.pictures(arguments.pictures, inputs.CHECKED)
    fitted = inputs.pictures(arguments.calibrate, inputs.CALIBRATION) if arguments.calibrate else []
    for target in targets:  # before minutes are spent on the first of them
        row = RUNTIMES[target.runtime]
        refuse(row, target.file, str(source.facts["task"]), target.precision, bool(fitted))
    for target in targets:
        progress(f"{target.file}: {target.runtime}, {target.precision}")
        checks = check_inputs(target, str(source.facts["task"]), arguments.fixed)
        report = export(
            source.model,
            target.file,
            target.runtime,
            inputs=[inputs.stretched(images, source.facts, size) for size in checks],
            facts=source.facts,
            precision=target.precision,
            calibration=inputs.prepared(fitted, source.facts, target.size)
            if target.precision == "int8"
            else (),
            fixed=arguments.fixed,
        )
        progress("")
        print(report_table(report))
        print_line(f"written: {target.file} ({mebibytes(target.file):.1f} MiB)")
    return 0


def wanted(arguments: argparse.Namespace, source: Source) -> Iterator[Target]:
    """Every file that was asked for.

    Raises:
        UserError: one name for several files, or a name that is a folder's.
    """
    from slideformer.deploy import RUNTIMES

    sizes = arguments.size or [source.size[1:]]
    rows = list(product(dict.fromkeys(arguments.to), dict.fromkeys(arguments.precision), sizes))
    output = arguments.output
    if output is not None and len(rows) > 1:
        raise UserError(f"--output names one file, got {len(rows)} to write; leave it out, or export one")
    if output is not None and output.is_dir() and output.suffix != RUNTIMES[rows[0][0]].suffix:
        raise UserError(f"--output must be a file, got the folder {output}; add a name such as model.onnx")
    for runtime, precision, side in rows:
        words = [] if precision == "float32" else [precision]
        words += [f"{side[0]}x{side[1]}"] if len(sizes) > 1 else []
        name = "-".join([source.stem.name, *words]) + RUNTIMES[runtime].suffix
        file = source.stem.with_name(name) if output is None else output
        yield Target(runtime, precision, (source.size[0], *side), file)


def check_inputs(target: Target, task: str, fixed: bool) -> list[tuple[int, int, int]]:
    """Batch, height and width of what a file is checked with."""
    from slideformer.deploy import RUNTIMES, check_sizes

    sizes = check_sizes(*target.size[1:])
    if fixed or target.precision in RUNTIMES[target.runtime].one_size:
        return [sizes[0]]
    return [(1, *size[1:]) for size in sizes] if task == "detect" else list(sizes)
