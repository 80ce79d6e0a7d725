# SPDX-License-Identifier: Apache-2.0
"""`slideformer bench`: time and memory compared with the alternatives."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from slideformer.cli import bench_accuracy, bench_deploy, bench_maps, measuring
from slideformer.cli.measuring import option
from slideformer.cli.ranges import SIDE, check_pixels, whole
from slideformer.errors import UserError

if TYPE_CHECKING:
    from slideformer.bench import Candidate, Groups, Setting
    from slideformer.bench.report import Kind

HELP = """\
Time and memory compared with the alternatives, alternating in one process, with the machine's own rates.
Whatever has a reference is checked against it first. The options of each are in
`slideformer bench WHAT --help`."""


@dataclass(frozen=True)
class Subject:
    """Something to measure in PyTorch.

    Attributes:
        help: what it is, in a line or two.
        measure: measures it, and says of which kind the measurement is.
        size: side of the square map or image, by default.
        batch: maps or images, by default.
        models: whether it is measured of models by name.
        several: whether it takes several sizes, and can be drawn.
        default: the models that are measured by default.
    """

    help: str
    measure: Callable[[argparse.Namespace, Setting], tuple[Kind[Groups], Groups]]
    size: int = 224
    batch: int = 8
    models: bool = True
    several: bool = True
    default: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what can be measured, each with its options."""
    choices = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    helps = {what: subject.help for what, subject in SUBJECTS.items()}
    helps |= {what: module.HELP for what, module in OTHERS.items()}
    for what, words in helps.items():
        choice = choices.add_parser(
            what, help=words, description=words, formatter_class=parser.formatter_class
        )
        if what in SUBJECTS:
            add_options(choice, SUBJECTS[what])
        else:
            OTHERS[what].add_arguments(choice)


def add_options(parser: argparse.ArgumentParser, subject: Subject) -> None:
    """Declare models, sizes, setting and output of a subject."""
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help=f"default: {' and '.join(subject.default) or 'all that slide'}"
        if subject.models
        else argparse.SUPPRESS,
    )
    parser.add_argument(
        "--work",
        choices=("forward", "backward", "step"),
        default="forward",
        help="backward: with the gradients; step: a training step of a layer or model",
    )
    if subject.models:
        parser.add_argument(
            "--size",
            type=whole(1, SIDE),
            nargs="+",
            default=[subject.size],
            help="sides of the square image; several show how the cost grows",
        )
    else:
        bench_maps.add_options(parser, subject.size)
    parser.add_argument("--head", default="mask_rcnn", help="of `detector`")
    parser.add_argument(
        "--checkpointing",
        action="store_true",
        help="of `detector`: compute blocks again in the backward pass",
    )
    parser.add_argument(
        "--photographs", type=whole(1, 100_000), default=1000, help="of `predict`: how many, generated"
    )
    parser.add_argument("--compile", action="store_true", help="layers and models under torch.compile")
    measuring.add_setting(parser, plot="draw time and memory by size")
    parser.set_defaults(batch=subject.batch)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and draw."""
    if arguments.what not in SUBJECTS:
        return OTHERS[arguments.what].run(arguments)
    from slideformer import bench

    subject = SUBJECTS[arguments.what]
    check(arguments, subject)
    setting = measuring.setting_of(arguments, arguments.work, compiled=arguments.compile)
    kind, result = subject.measure(arguments, setting)
    facts = bench.conditions(in_words(arguments, subject), setting, command(arguments, subject))
    report = kind.report(result, facts)
    measuring.show(report, arguments)
    if arguments.plot is not None:
        from slideformer.viz import benchmark_curves

        benchmark_curves(report.figures, arguments.plot)
    return 0


def at_sizes(
    build: Callable[[argparse.Namespace, Setting, int], tuple[list[Candidate], list[str]]],
    arguments: argparse.Namespace,
    setting: Setting,
) -> tuple[Kind[Groups], Groups]:
    """Measure one group a size."""
    from slideformer import bench

    builds = [(size, partial(build, arguments, setting, size)) for size in arguments.size]
    return bench.SIZES, bench.measure_sizes(builds, setting)


def operator_or_layer(arguments: argparse.Namespace, setting: Setting) -> tuple[Kind[Groups], Groups]:
    """Measure one group a size of the operator, or of an attention layer."""
    from slideformer import bench

    build = bench.operator_candidates if arguments.what == "operator" else bench.layer_candidates
    problems = bench_maps.problems(arguments)
    builds = [(problem.size, partial(build, problem, setting)) for problem in problems]
    return bench.SIZES, bench.measure_sizes(builds, setting)


def models(arguments: argparse.Namespace, setting: Setting, size: int) -> tuple[list[Candidate], list[str]]:
    """Candidates that are models."""
    from slideformer import bench

    names = arguments.models or SUBJECTS["model"].default
    return bench.model_candidates(names, size, arguments.batch, setting), []


def hosts(arguments: argparse.Namespace, setting: Setting) -> tuple[Kind[Groups], Groups]:
    """Measure one group a model: its plain host and itself."""
    from slideformer import bench

    names = [name for name in arguments.models or bench.host_names() if setting.keeps(name)]
    if not names:
        raise UserError("no model is left; widen --only")
    return bench.HOSTS, bench.measure_hosts(names, arguments.size[0], arguments.batch, setting)


def detectors(arguments: argparse.Namespace, setting: Setting) -> tuple[Kind[Groups], Groups]:
    """Measure one group: each backbone in the detector and alone."""
    from slideformer import bench

    (size,) = arguments.size
    candidates = bench.detector_candidates(
        arguments.models or SUBJECTS["detector"].default,
        arguments.head,
        size,
        arguments.batch,
        setting,
        grad_checkpointing=arguments.checkpointing,
    )
    return bench.DETECTOR, bench.Groups([bench.measure(candidates, setting, size=size)])


def prediction(arguments: argparse.Namespace, setting: Setting) -> tuple[Kind[Groups], Groups]:
    """Measure one group: a model alone, and prediction by it on a folder."""
    from slideformer import bench

    (size,) = arguments.size
    (model,) = arguments.models or SUBJECTS["predict"].default
    with TemporaryDirectory() as folder:
        bench.write_photographs(Path(folder), arguments.photographs, size, setting)
        candidates = bench.prediction_candidates(model, Path(folder), arguments.batch, setting)
        return bench.SIZES, bench.Groups([bench.measure(candidates, setting, size=size)])


SUBJECTS = {
    "operator": Subject(
        "our backends, the paper authors' two convolutions, their merged form, F.unfold, NATTEN and "
        "PyTorch's masked attention",
        operator_or_layer,
        size=56,
        models=False,
    ),
    "layer": Subject(
        "the same between their projections, and window attention",
        operator_or_layer,
        size=56,
        models=False,
    ),
    "model": Subject(
        "ours, the same in the authors' form, and models of timm",
        partial(at_sizes, models),
        default=("swin_tiny_patch4_window7_224", "pvt_v2_b2", "slide_swin_tiny"),
    ),
    "hosts": Subject("ours, each with the plain host that it improves", hosts, several=False),
    "detector": Subject(
        "one over several backbones, and each backbone alone",
        detectors,
        size=1024,
        batch=1,
        several=False,
        default=("swin_tiny_patch4_window7_224", "slide_swin_tiny"),
    ),
    "predict": Subject(
        "prediction on a folder of photographs, and the model alone on inputs that are ready",
        prediction,
        size=512,
        batch=32,
        several=False,
        default=("slide_swin_tiny",),
    ),
}


# Subjects with options of their own.
OTHERS = {"deploy": bench_deploy, "accuracy": bench_accuracy}


def in_words(arguments: argparse.Namespace, subject: Subject) -> str:
    """The subject with its sizes in words."""
    if subject.models:
        sides = ", ".join(f"{size} x {size}" for size in arguments.size)
        saving = ", checkpointing" if arguments.checkpointing else ""
        detector = f"{arguments.head}{saving}, " if arguments.what == "detector" else ""
        if arguments.what == "predict":
            name = arguments.models or subject.default
            return f"{name[0]}, {arguments.photographs} photographs of {sides}, batch {arguments.batch}"
        return f"{detector}batch {arguments.batch}, images of {sides}"
    return f"{'layer, ' if arguments.what == 'layer' else ''}{bench_maps.in_words(arguments)}"


def check(arguments: argparse.Namespace, subject: Subject) -> None:
    """Check that arguments fit together."""
    what = arguments.what
    measuring.check_setting(arguments)
    if subject.models:
        check_pixels(arguments.batch, arguments.size)
    else:
        bench_maps.check(arguments)
    if what == "operator" and arguments.work == "step":
        raise UserError("the operator alone has no training step; use --work backward, or a layer or model")
    if arguments.models and not subject.models:
        raise UserError(
            "names of models go with `bench model`, `bench hosts`, `bench detector` or `bench predict`, "
            f"got {' '.join(arguments.models)}"
        )
    if not subject.several and (len(arguments.size) > 1 or arguments.plot is not None):
        raise UserError(f"`bench {what}` takes one --size and draws nothing; leave --plot out")
    if what == "detector" and (arguments.work == "backward" or arguments.compile or arguments.only):
        raise UserError("`bench detector` measures --work forward or step of every backbone, not compiled")
    unusual = arguments.work != "forward" or arguments.compile or arguments.only
    if what == "predict" and (unusual or len(arguments.models) > 1):
        raise UserError(
            "`bench predict` measures --work forward of one model, not compiled; leave the rest out"
        )


def command(arguments: argparse.Namespace, subject: Subject) -> str:
    """The command that measures the same again."""
    words = [
        "bench",
        arguments.what,
        *arguments.models,
        *option("--work", arguments.work, usual="forward"),
        *option("--batch", arguments.batch),
        *option("--size", arguments.size, usual=[subject.size]),
        *([] if subject.models else bench_maps.words(arguments)),
        *option("--head", arguments.head if arguments.what == "detector" else None),
        *option("--checkpointing", arguments.checkpointing),
        *option("--photographs", arguments.photographs, usual=1000),
        *option("--compile", arguments.compile),
        *measuring.setting_words(arguments),
    ]
    return measuring.command(words, arguments)
