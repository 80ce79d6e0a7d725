# SPDX-License-Identifier: Apache-2.0
"""`slideformer bench`: time and memory beside the alternatives."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from slideformer.cli import measuring
from slideformer.errors import UserError, check_range

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
POSITIVE = ("heads", "head_dim", "kernel_size")


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
    parser.add_argument("--compile", action="store_true", help="layers and models under torch.compile")
    measuring.add_arguments(parser, plot="draw time and memory by size")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    from slideformer.bench import DTYPES, Setting, conditions, markdown, text, to_dict

    check(arguments)
    setting = Setting(arguments.work, arguments.device, DTYPES[arguments.dtype], arguments.compile)
    subject, groups = measured(arguments, setting, measuring.progress)
    measuring.progress("")
    facts = conditions(subject, setting, rounds=arguments.rounds, command=command(arguments))
    print(markdown(groups, facts) if arguments.markdown else text(groups, facts))
    measuring.write_json(arguments, to_dict(groups, facts))
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
    measuring.check(arguments, {name: getattr(arguments, name) for name in POSITIVE})
    check_range("--size", min(arguments.size or [1]), 1)
    if arguments.kernel_size % 2 == 0:
        raise UserError(
            f"--kernel-size must be odd, got {arguments.kernel_size}; use {arguments.kernel_size + 1}"
        )
    if arguments.border != "zeros" and not arguments.plain:
        raise UserError(f"a learned shift needs --border zeros, got {arguments.border}; add --plain")
    if arguments.what == "operator" and arguments.work == "step":
        raise UserError("the operator alone has no training step; use --work backward, or a layer or model")
    if arguments.models and arguments.what != "model":
        raise UserError(f"names of models go with `bench model`, got {' '.join(arguments.models)}")


def command(arguments: argparse.Namespace) -> str:
    """The command that measures the same again."""
    words = ["slideformer bench", arguments.what, *arguments.models]
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
    words += ["--compile"] if arguments.compile else []
    return measuring.command(words, arguments)
