# SPDX-License-Identifier: Apache-2.0
"""`slideformer bench`: time and memory beside the alternatives."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from slideformer.files import write_text

HELP = """\
Time and memory of the operator's backends beside the paper authors' form (two convolutions), its
merged form and F.unfold, alternating in one process. Every candidate is first checked against the
reference."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare sizes, rounds and form of the answer."""
    parser.add_argument("what", choices=("operator",), help="what to measure")
    parser.add_argument("--batch", type=int, default=8, help="batch B")
    parser.add_argument("--size", type=int, default=56, help="side of the square map")
    parser.add_argument("--heads", type=int, default=3, help="heads G")
    parser.add_argument("--head-dim", type=int, default=32, help="channels D of a head")
    parser.add_argument("--kernel-size", type=int, default=3, help="odd side K of the window")
    parser.add_argument("--plain", action="store_true", help="without a learned shift")
    parser.add_argument(
        "--border", choices=("zeros", "mask", "clamp"), default="zeros", help="of our backends, with --plain"
    )
    parser.add_argument("--backward", action="store_true", help="forward and backward")
    parser.add_argument("--rounds", type=int, default=10, help="how often each candidate is timed")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write JSON, too")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    from slideformer.bench import Problem, conditions, markdown, measure, text, to_dict
    from slideformer.errors import UserError

    sizes = ("batch", "size", "heads", "head_dim", "kernel_size", "rounds")
    for name in sizes:
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(arguments, name)}")
    if arguments.kernel_size % 2 == 0:
        raise UserError(
            f"--kernel-size must be odd, got {arguments.kernel_size}; use {arguments.kernel_size + 1}"
        )
    if arguments.json is not None and not arguments.json.parent.is_dir():
        raise UserError(f"--json must lie in a folder that exists, got {arguments.json}; make the folder")
    if arguments.border != "zeros" and not arguments.plain:
        raise UserError(f"a learned shift needs --border zeros, got {arguments.border}; add --plain")
    problem = Problem(
        **{name: getattr(arguments, name) for name in sizes[:-1]},
        deformed=not arguments.plain,
        border=arguments.border,
    )
    terminal = sys.stderr.isatty()

    def progress(words: str) -> None:
        if terminal:
            print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)

    rows, machine = measure(problem, rounds=arguments.rounds, backward=arguments.backward, progress=progress)
    progress("")
    facts = conditions(
        problem, machine, backward=arguments.backward, rounds=arguments.rounds, command=command(arguments)
    )
    print(markdown(rows, facts) if arguments.markdown else text(rows, facts))
    if arguments.json is not None:
        write_text(arguments.json, json.dumps(to_dict(rows, facts), indent=2) + "\n")
    return 0


def command(arguments: argparse.Namespace) -> str:
    """The command that measures the same again."""
    words = ["slideformer bench operator"]
    words += [
        f"--{name} {getattr(arguments, name.replace('-', '_'))}"
        for name in ("batch", "size", "heads", "head-dim", "kernel-size", "rounds")
    ]
    words += ["--plain"] if arguments.plain else []
    words += [f"--border {arguments.border}"] if arguments.border != "zeros" else []
    words += ["--backward"] if arguments.backward else []
    return " ".join(words)
