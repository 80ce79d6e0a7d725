# SPDX-License-Identifier: Apache-2.0
"""Options, output and reproduction command that the verbs for measurements share."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slideformer.cli.ranges import DTYPES, whole
from slideformer.console import progress
from slideformer.errors import UserError
from slideformer.files import write_text

if TYPE_CHECKING:
    from slideformer.bench import Report, Setting
    from slideformer.bench.candidate import Work

# Variables that change the figures: instruction sets, threads, and how these wait.
ENVIRONMENT = (
    "ATEN_CPU_CAPABILITY",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "SLIDEFORMER_CPU_ISA",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
)


def add_setting(parser: argparse.ArgumentParser, *, plot: str) -> None:
    """Declare batch, device, dtype, candidates and output; ``plot`` says what the image shows."""
    parser.add_argument("--batch", type=whole(1, 4096), default=8, help="batch B")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the maps")
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="WORD", help="candidates whose name has one of the words"
    )
    parser.add_argument("--plot", type=Path, default=None, metavar="PNG", help=plot)
    add_output(parser)


def add_output(parser: argparse.ArgumentParser) -> None:
    """Declare rounds and output, which every measurement has."""
    parser.add_argument(
        "--rounds", type=whole(1, 10_000), default=10, help="how often each candidate is visited"
    )
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write JSON, too")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")


def check_setting(arguments: argparse.Namespace) -> None:
    """Check that the device exists, and that output can be written."""
    from slideformer.runs.placed import check_device

    check_file("--json", arguments.json)
    check_file("--plot", arguments.plot)
    check_device(arguments.device)


def setting_of(arguments: argparse.Namespace, work: Work = "forward", *, compiled: bool = False) -> Setting:
    """The setting of a measurement in PyTorch, which may take most of the memory that there is."""
    from slideformer import bench
    from slideformer.models.memory import available_bytes

    return bench.Setting(
        work,
        arguments.device,
        bench.DTYPES[arguments.dtype],
        compiled,
        arguments.rounds,
        arguments.only,
        0.8 * available_bytes(arguments.device),
        progress,
    )


def check_file(option: str, path: Path | None) -> None:
    """Check that a file, if one is named, can be written."""
    if path is not None and not path.parent.is_dir():
        raise UserError(f"{option} must be in a folder that exists, got {path}; make the folder")
    if path is not None and path.is_dir():
        raise UserError(f"{option} must be a file, got the folder {path}; name a file in it")


def show(report: Report, arguments: argparse.Namespace) -> None:
    """Print a report, and write its figures where ``--json`` says."""
    progress("")
    print(report.table.markdown() if arguments.markdown else report.table.text())
    if arguments.json is not None:
        write_text(arguments.json, json.dumps(report.figures, indent=2) + "\n")


def option(name: str, value: object, *, usual: object = None) -> list[str]:
    """The words of an option; none where it has its usual value.

    Args:
        name: with its dashes.
        value: one, several, or True for an option that takes none.
        usual: the value that need not be given.
    """
    if value == usual or value is None or value is False:
        return []
    values = () if value is True else value if isinstance(value, list | tuple) else (value,)
    return [name, *map(str, values)]


def setting_words(arguments: argparse.Namespace) -> list[str]:
    """The words of the options of `add_setting` that a command has at its end."""
    return [
        *option("--device", arguments.device, usual="cpu"),
        *option("--dtype", arguments.dtype, usual="float32"),
        *option("--only", arguments.only, usual=()),
    ]


def command(words: Sequence[str], arguments: argparse.Namespace) -> str:
    """The command that measures the same again, as a shell takes it.

    Args:
        words: verb and options.
        arguments: parsed, with the rounds.
    """
    environment = [f"{name}={shlex.quote(os.environ[name])}" for name in ENVIRONMENT if name in os.environ]
    return " ".join(
        [*environment, shlex.join(["slideformer", *words, *option("--rounds", arguments.rounds)])]
    )
