# SPDX-License-Identifier: Apache-2.0
"""What the verbs that measure have in common: setting, rounds, and the form of the answer."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slideformer.cli.ranges import whole
from slideformer.errors import UserError, printable
from slideformer.files import write_text

BATCH = 8
# What changes the figures without standing in the command: instruction sets and threads.
ENVIRONMENT = (
    "ATEN_CPU_CAPABILITY",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "SLIDEFORMER_CPU_ISA",
    "OMP_NUM_THREADS",
)


def add_arguments(parser: argparse.ArgumentParser, *, plot: str, batch: int | None = BATCH) -> None:
    """Declare them.

    Args:
        parser: of the verb.
        plot: what the picture shows.
        batch: where it is not given; None where the verb decides.
    """
    parser.add_argument("--batch", type=whole(1, 4096), default=batch, help=f"batch B, {BATCH} unless told")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), default="float32", help="of the maps"
    )
    parser.add_argument("--only", nargs="+", default=(), metavar="WORD", help="candidates whose name has one")
    parser.add_argument("--plot", type=Path, default=None, metavar="PNG", help=plot)
    add_answer(parser)


def add_answer(parser: argparse.ArgumentParser) -> None:
    """Declare rounds and the form of the answer, which every measurement has."""
    parser.add_argument(
        "--rounds", type=whole(1, 10_000), default=10, help="how often each candidate is visited"
    )
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write JSON, too")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")


def check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be measured or written.

    Raises:
        UserError: what must hold, what came, what to do.
    """
    import torch

    check_answer(arguments)
    check_file("--plot", arguments.plot)
    try:
        torch.empty(1, device=arguments.device)
    except (RuntimeError, AssertionError) as error:
        # PyTorch appends all that it knows of its own build.
        reason = str(error).splitlines()[0].split(". ")[0]
        raise UserError(f"--device must be one that is here, got {arguments.device!r}: {reason}") from error


def check_answer(arguments: argparse.Namespace) -> None:
    """Refuse an answer that cannot be written.

    Raises:
        UserError: what must hold, what came, what to do.
    """
    check_file("--json", arguments.json)


def check_file(option: str, path: Path | None) -> None:
    """Refuse a file that cannot be written, if one is named.

    Raises:
        UserError: what must hold, what came, what to do.
    """
    if path is not None and not path.parent.is_dir():
        raise UserError(f"{option} must lie in a folder that exists, got {path}; make the folder")
    if path is not None and path.is_dir():
        raise UserError(f"{option} must be a file, got the folder {path}; name a file in it")


def progress(words: str) -> None:
    """Tell a terminal what is being done, in place of what was told before."""
    if sys.stderr.isatty():
        print(f"\r\033[K{printable(words)}", end="", file=sys.stderr, flush=True)


def write_json(arguments: argparse.Namespace, figures: Mapping[str, Any]) -> None:
    """Write the figures where ``--json`` says, if it does."""
    if arguments.json is not None:
        write_text(arguments.json, json.dumps(figures, indent=2) + "\n")


def command(words: Sequence[str], arguments: argparse.Namespace) -> str:
    """The command that measures the same again, from the words of the verb itself."""
    words = list(words)
    words += [f"--device {arguments.device}"] if arguments.device != "cpu" else []
    words += [f"--dtype {arguments.dtype}"] if arguments.dtype != "float32" else []
    words += [f"--only {' '.join(map(repr, arguments.only))}"] if arguments.only else []
    return again(words, arguments.rounds)


def again(words: Sequence[str], rounds: int) -> str:
    """A command with its rounds, and with what changes its figures without standing in it."""
    environment = [f"{name}={os.environ[name]}" for name in ENVIRONMENT if name in os.environ]
    return " ".join([*environment, *words, f"--rounds {rounds}"])
