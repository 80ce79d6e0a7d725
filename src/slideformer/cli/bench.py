# SPDX-License-Identifier: Apache-2.0
"""`slideformer bench`: time and memory beside the alternatives."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from slideformer.files import write_text

if TYPE_CHECKING:
    from slideformer.bench import Group, Setting

HELP = """\
Time and memory beside the alternatives, alternating in one process, with the machine's own rates.
`operator`: our backends, the paper authors' two convolutions, their merged form, F.unfold, NATTEN.
`layer`: the same between their projections, and window attention. `model`: ours, the same in the
authors' form, and models of timm. Whatever has a reference is checked against it first."""

MODELS = ("swin_tiny_patch4_window7_224", "pvt_v2_b2", "slide_swin_tiny")
# What --size and --batch are where they are not given.
SIZES = {"operator": 56, "layer": 56, "model": 224}
# What changes the figures without standing in the command: instruction sets and threads.
ENVIRONMENT = (
    "ATEN_CPU_CAPABILITY",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "SLIDEFORMER_CPU_ISA",
    "OMP_NUM_THREADS",
)
POSITIVE = ("batch", "heads", "head_dim", "kernel_size", "rounds")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to measure, sizes, setting and form of the answer."""
    parser.add_argument("what", choices=tuple(SIZES), help="what to measure")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of `model`: {', '.join(MODELS)}")
    parser.add_argument(
        "--work",
        choices=("forward", "backward", "step"),
        default="forward",
        help="backward: with the gradients; step: a training step of a layer or model",
    )
    parser.add_argument("--batch", type=int, default=8, help="batch B")
    parser.add_argument(
        "--size",
        type=int,
        nargs="+",
        default=None,
        help="sides of the square map, 56, or image, 224; several show how the cost grows",
    )
    parser.add_argument("--heads", type=int, default=3, help="heads G")
    parser.add_argument("--head-dim", type=int, default=32, help="channels D of a head")
    parser.add_argument("--kernel-size", type=int, default=3, help="odd side K of the window")
    parser.add_argument("--plain", action="store_true", help="without a learned shift")
    parser.add_argument(
        "--border", choices=("zeros", "mask", "clamp"), default="zeros", help="of our backends, with --plain"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), default="float32", help="of the maps"
    )
    parser.add_argument("--compile", action="store_true", help="layers and models under torch.compile")
    parser.add_argument("--only", nargs="+", default=(), metavar="WORD", help="candidates whose name has one")
    parser.add_argument("--rounds", type=int, default=10, help="how often each candidate is visited")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write JSON, too")
    parser.add_argument("--plot", type=Path, default=None, metavar="PNG", help="draw time and memory by size")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    from slideformer.bench import DTYPES, Setting, conditions, markdown, text, to_dict

    check(arguments)
    setting = Setting(arguments.work, arguments.device, DTYPES[arguments.dtype], arguments.compile)
    terminal = sys.stderr.isatty()

    def progress(words: str) -> None:
        if terminal:
            print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)

    subject, groups = measured(arguments, setting, progress)
    progress("")
    facts = conditions(subject, setting, rounds=arguments.rounds, command=command(arguments))
    print(markdown(groups, facts) if arguments.markdown else text(groups, facts))
    if arguments.json is not None:
        write_text(arguments.json, json.dumps(to_dict(groups, facts), indent=2) + "\n")
    if arguments.plot is not None:
        from slideformer.viz import benchmark_curves

        benchmark_curves(to_dict(groups, facts), arguments.plot)
    return 0


def measured(
    arguments: argparse.Namespace, setting: Setting, progress: Callable[[str], None]
) -> tuple[str, list[Group]]:
    """What was measured in words, and one group a size."""
    from slideformer.bench import (
        Problem,
        available_bytes,
        layer_candidates,
        measure,
        model_candidates,
        operator_candidates,
    )
    from slideformer.errors import UserError

    groups = []
    for size in arguments.size or [SIZES[arguments.what]]:
        notes: list[str] = []
        if arguments.what == "model":
            names = arguments.models or MODELS
            candidates = model_candidates(
                names, size, arguments.batch, setting, only=arguments.only, progress=progress
            )
        else:
            problem = Problem(
                arguments.batch,
                size,
                arguments.heads,
                arguments.head_dim,
                arguments.kernel_size,
                not arguments.plain,
                arguments.border,
            )
            build = operator_candidates if arguments.what == "operator" else layer_candidates
            memory = 0.8 * available_bytes(arguments.device)
            candidates, notes = build(problem, setting, only=arguments.only, memory=memory, progress=progress)
        if not candidates:
            raise UserError(f"no candidate is left at size {size}; {'; '.join(notes) or 'widen --only'}")
        rounds = arguments.rounds
        groups.append(measure(candidates, setting, size=size, rounds=rounds, notes=notes, progress=progress))
    return subject(arguments), groups


def subject(arguments: argparse.Namespace) -> str:
    """What is measured, in words."""
    sides = ", ".join(f"{size} x {size}" for size in arguments.size or [SIZES[arguments.what]])
    if arguments.what == "model":
        return f"batch {arguments.batch}, images of {sides}"
    kind = f"plain, border {arguments.border}," if arguments.plain else "deformed"
    return (
        f"{'layer, ' if arguments.what == 'layer' else ''}{kind} K = {arguments.kernel_size}, "
        f"batch {arguments.batch}, {sides}, {arguments.heads} heads of {arguments.head_dim}"
    )


def check(arguments: argparse.Namespace) -> None:
    """Refuse arguments that do not fit together.

    Raises:
        UserError: what must hold, what came, what to do.
    """
    import torch

    from slideformer.errors import UserError

    given = {f"--{name.replace('_', '-')}": getattr(arguments, name) for name in POSITIVE}
    for size in arguments.size or ():
        given["--size"] = size if size < 1 else given.get("--size", size)
    for name, value in given.items():
        if value < 1:
            raise UserError(f"{name} must be at least 1, got {value}")
    if arguments.kernel_size % 2 == 0:
        raise UserError(
            f"--kernel-size must be odd, got {arguments.kernel_size}; use {arguments.kernel_size + 1}"
        )
    for name in ("json", "plot"):
        path = getattr(arguments, name)
        if path is not None and not path.parent.is_dir():
            raise UserError(f"--{name} must lie in a folder that exists, got {path}; make the folder")
    if arguments.border != "zeros" and not arguments.plain:
        raise UserError(f"a learned shift needs --border zeros, got {arguments.border}; add --plain")
    if arguments.what == "operator" and arguments.work == "step":
        raise UserError("the operator alone has no training step; use --work backward, or a layer or model")
    if arguments.models and arguments.what != "model":
        raise UserError(f"names of models go with `bench model`, got {' '.join(arguments.models)}")
    try:
        torch.empty(1, device=arguments.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device must be one that is here, got {arguments.device!r}: {reason}") from error


def command(arguments: argparse.Namespace) -> str:
    """The command that measures the same again."""
    words = [f"{name}={os.environ[name]}" for name in ENVIRONMENT if name in os.environ]
    words += ["slideformer bench", arguments.what, *arguments.models]
    words += [f"--work {arguments.work}"] if arguments.work != "forward" else []
    words += [f"--batch {arguments.batch}"]
    words += [f"--size {' '.join(map(str, arguments.size))}"] if arguments.size else []
    if arguments.what != "model":
        words += [
            f"--{name} {getattr(arguments, name.replace('-', '_'))}"
            for name in ("heads", "head-dim", "kernel-size")
        ]
    words += ["--plain"] if arguments.plain else []
    words += [f"--border {arguments.border}"] if arguments.border != "zeros" else []
    words += [f"--device {arguments.device}"] if arguments.device != "cpu" else []
    words += [f"--dtype {arguments.dtype}"] if arguments.dtype != "float32" else []
    words += ["--compile"] if arguments.compile else []
    words += [f"--only {' '.join(map(repr, arguments.only))}"] if arguments.only else []
    return " ".join([*words, f"--rounds {arguments.rounds}"])
