# SPDX-License-Identifier: Apache-2.0
"""`slideformer bench`: time and memory beside the alternatives."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slideformer.cli import bench_deploy, measuring
from slideformer.cli.ranges import SIDE, check_pixels, whole
from slideformer.errors import UserError

if TYPE_CHECKING:
    from slideformer.bench import Group, Setting

HELP = """\
Time and memory beside the alternatives, alternating in one process, with the machine's own rates.
Whatever has a reference is checked against it first. The options of each are in
`slideformer bench WHAT --help`."""

MODELS = ("swin_tiny_patch4_window7_224", "pvt_v2_b2", "slide_swin_tiny")
BACKBONES = ("swin_tiny_patch4_window7_224", "slide_swin_tiny")
MODELS_HELP = (
    f"of `model`, {', '.join(MODELS)} unless told; of `hosts`, all that slide; of `detector`, backbones, "
    f"{' and '.join(BACKBONES)} unless told"
)
# What --size and --batch are where they are not given.
SIZES = {"operator": 56, "layer": 56, "model": 224, "hosts": 224, "detector": 1024}
BATCHES = {"detector": 1}
OF_MODELS = ("model", "hosts", "detector")
# What has a table of its own: the names of the functions that make text, Markdown and plain values.
FORMS = {
    "hosts": ("hosts_text", "hosts_markdown", "hosts_to_dict"),
    "detector": ("detector_text", "detector_markdown", "detector_to_dict"),
}


@dataclass(frozen=True)
class Subject:
    """Something to measure.

    Attributes:
        help: what it is, in a line or two.
        declare: its options.
        run: measures and prints; gives the exit code.
    """

    help: str
    declare: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what there is to measure, each with options of its own."""
    choices = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for what, subject in SUBJECTS.items():
        choice = choices.add_parser(
            what, help=subject.help, description=subject.help, formatter_class=parser.formatter_class
        )
        subject.declare(choice)
        choice.set_defaults(run=subject.run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print what was chosen."""
    return int(arguments.run(arguments))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare models, sizes, setting and form of the answer of what runs in PyTorch."""
    parser.add_argument("models", nargs="*", metavar="MODEL", help=MODELS_HELP)
    parser.add_argument(
        "--work",
        choices=("forward", "backward", "step"),
        default="forward",
        help="backward: with the gradients; step: a training step of a layer or model",
    )
    parser.add_argument(
        "--size",
        type=whole(1, SIDE),
        nargs="+",
        default=None,
        help="sides of the square map, 56, or image, 224; several show how the cost grows",
    )
    parser.add_argument("--heads", type=whole(1, 1024), default=3, help="heads G")
    parser.add_argument("--head-dim", type=whole(1, 4096), default=32, help="channels D of a head")
    parser.add_argument("--kernel-size", type=whole(1, 63, 255), default=3, help="odd side K of the window")
    parser.add_argument("--plain", action="store_true", help="without a learned shift")
    parser.add_argument(
        "--border", choices=("zeros", "mask", "clamp"), default="zeros", help="of our backends, with --plain"
    )
    parser.add_argument("--head", default="mask_rcnn", help="of `detector`")
    parser.add_argument(
        "--checkpointing", action="store_true", help="of `detector`: compute blocks anew in the backward pass"
    )
    parser.add_argument("--compile", action="store_true", help="layers and models under torch.compile")
    measuring.add_arguments(parser, plot="draw time and memory by size", batch=None)


def in_pytorch(arguments: argparse.Namespace) -> int:
    """Measure and print what runs in PyTorch."""
    from slideformer import bench

    if arguments.batch is None:
        arguments.batch = BATCHES.get(arguments.what, measuring.BATCH)
    check(arguments)
    setting = bench.Setting(
        arguments.work, arguments.device, bench.DTYPES[arguments.dtype], arguments.compile
    )
    groups = GROUPS.get(arguments.what, measured)(arguments, setting, measuring.progress)
    measuring.progress("")
    facts = bench.conditions(subject(arguments), setting, rounds=arguments.rounds, command=command(arguments))
    text, markdown, to_dict = (
        getattr(bench, name) for name in FORMS.get(arguments.what, ("text", "markdown", "to_dict"))
    )
    print((markdown if arguments.markdown else text)(groups, facts))
    measuring.write_json(arguments, to_dict(groups, facts))
    if arguments.plot is not None:
        from slideformer.viz import benchmark_curves

        benchmark_curves(bench.to_dict(groups, facts), arguments.plot)
    return 0


def measured(arguments: argparse.Namespace, setting: Setting, progress: Callable[[str], None]) -> list[Group]:
    """One group a size."""
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
    return groups


def pairs(arguments: argparse.Namespace, setting: Setting, progress: Callable[[str], None]) -> list[Group]:
    """One group a model: its plain host and itself."""
    from slideformer.bench import host_candidates, host_names, measure

    size, *_ = arguments.size or [SIZES["hosts"]]
    names = [
        name
        for name in arguments.models or host_names()
        if not arguments.only or any(word in name for word in arguments.only)
    ]
    if not names:
        raise UserError("no model is left; widen --only")
    groups = []
    for number, name in enumerate(names):

        def tell(words: str, place: str = f"{number + 1} of {len(names)}") -> None:
            progress(f"{place}: {words}")

        candidates = host_candidates(name, size, arguments.batch, setting, progress=tell)
        groups.append(measure(candidates, setting, size=size, rounds=arguments.rounds, progress=tell))
    return groups


def detectors(
    arguments: argparse.Namespace, setting: Setting, progress: Callable[[str], None]
) -> list[Group]:
    """One group: each backbone in the detector and alone."""
    from slideformer.bench import detector_candidates, measure

    size, *_ = arguments.size or [SIZES["detector"]]
    candidates = detector_candidates(
        arguments.models or BACKBONES,
        arguments.head,
        size,
        arguments.batch,
        setting,
        grad_checkpointing=arguments.checkpointing,
        progress=progress,
    )
    return [measure(candidates, setting, size=size, rounds=arguments.rounds, progress=progress)]


GROUPS = {"hosts": pairs, "detector": detectors}


def subject(arguments: argparse.Namespace) -> str:
    """What is measured, in words."""
    sides = ", ".join(f"{size} x {size}" for size in arguments.size or [SIZES[arguments.what]])
    if arguments.what == "detector":
        saving = ", checkpointing" if arguments.checkpointing else ""
        return f"{arguments.head}{saving}, batch {arguments.batch}, pictures of {sides}"
    if arguments.what in OF_MODELS:
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
    measuring.check(arguments)
    if arguments.what in OF_MODELS:
        check_pixels(arguments.batch, arguments.size or [SIZES[arguments.what]])
    if arguments.kernel_size % 2 == 0:
        raise UserError(
            f"--kernel-size must be odd, got {arguments.kernel_size}; use {arguments.kernel_size + 1}"
        )
    if arguments.border != "zeros" and not arguments.plain:
        raise UserError(f"a learned shift needs --border zeros, got {arguments.border}; add --plain")
    if arguments.what == "operator" and arguments.work == "step":
        raise UserError("the operator alone has no training step; use --work backward, or a layer or model")
    if arguments.models and arguments.what not in OF_MODELS:
        raise UserError(
            f"names of models go with `bench model`, `bench hosts` or `bench detector`, "
            f"got {' '.join(arguments.models)}"
        )
    if arguments.what in FORMS and (len(arguments.size or ()) > 1 or arguments.plot is not None):
        raise UserError(f"`bench {arguments.what}` takes one --size and draws nothing; leave --plot out")
    if arguments.what == "detector" and (arguments.work == "backward" or arguments.compile or arguments.only):
        raise UserError("`bench detector` measures --work forward or step of all that is named, not compiled")


def command(arguments: argparse.Namespace) -> str:
    """The command that measures the same again."""
    words = ["slideformer bench", arguments.what, *arguments.models]
    words += [f"--work {arguments.work}"] if arguments.work != "forward" else []
    words += [f"--batch {arguments.batch}"]
    words += [f"--size {' '.join(map(str, arguments.size))}"] if arguments.size else []
    if arguments.what not in OF_MODELS:
        words += [
            f"--{name} {getattr(arguments, name.replace('-', '_'))}"
            for name in ("heads", "head-dim", "kernel-size")
        ]
    words += ["--plain"] if arguments.plain else []
    words += [f"--border {arguments.border}"] if arguments.border != "zeros" else []
    words += [f"--head {arguments.head}"] if arguments.what == "detector" else []
    words += ["--checkpointing"] if arguments.checkpointing else []
    words += ["--compile"] if arguments.compile else []
    return measuring.command(words, arguments)


IN_PYTORCH = {
    "operator": "our backends, the paper authors' two convolutions, their merged form, F.unfold and NATTEN",
    "layer": "the same between their projections, and window attention",
    "model": "ours, the same in the authors' form, and models of timm",
    "hosts": "ours, each beside the plain host that it improves",
    "detector": "one over several backbones, and each backbone alone",
}
SUBJECTS = {
    **{what: Subject(words, add_options, in_pytorch) for what, words in IN_PYTORCH.items()},
    "deploy": Subject(bench_deploy.HELP, bench_deploy.add_arguments, bench_deploy.run),
}
