# SPDX-License-Identifier: Apache-2.0
"""`slideformer verify`: an exported file beside the model that it was made of."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slideformer.cli.exported import report_table
from slideformer.cli.ranges import THREADS, side_lengths
from slideformer.errors import UserError

if TYPE_CHECKING:
    from slideformer.cli.source import Source
    from slideformer.deploy import Card, Runtime

HELP = """Run an exported file in its runtime beside the PyTorch model, on real pictures at several sizes.

Exits with 2 where they differ by more than the file's precision may. With --data, on labelled pictures as
well: how often both give the same class, and how often each the right one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare file, model and pictures."""
    parser.add_argument("file", type=Path, help="exported by `slideformer export`")
    parser.add_argument(
        "--model", default=None, metavar="RUN", help="that it was made of; the run whose folder it lies in"
    )
    parser.add_argument(
        "--pictures",
        nargs="+",
        default=(),
        metavar="PICTURES",
        help="to run, three at most; photographs if not given",
    )
    parser.add_argument("--size", type=side_lengths, nargs="+", default=None, metavar="HxW", help="to run")
    parser.add_argument(
        "--data", default=None, metavar="SOURCE", help="labelled pictures: a folder with val/, or `digits`"
    )
    parser.add_argument("--threads", type=THREADS, help="of the runtime; all if not given")
    parser.add_argument(
        "--run-code", action="store_true", help="run a .pt2 package, which holds machine code: your own only"
    )


def run(arguments: argparse.Namespace) -> int:
    """Verify and print."""
    from slideformer.cli import inputs
    from slideformer.cli.source import source_of
    from slideformer.deploy import fingerprint, of_file, verify
    from slideformer.deploy.retina import RetinaGraph

    file: Path = arguments.file
    runtime = of_file(file)
    card = runtime.card(file)
    if runtime.holds_code and not arguments.run_code:
        raise UserError(
            f"{file} holds machine code that runs when it is opened; add --run-code if it is yours"
        )
    source = source_of(file, dict(card.facts), arguments.model)
    if source.facts["task"] != card.task:
        raise UserError(
            f"{file} must be of its model's task, {source.facts['task']}, got {card.task}; export it again"
        )
    if fingerprint(source.model) != card.weights:
        raise UserError(
            f"{file} must be made of the model it is compared with, but its weights are others; "
            "give its own with --model, or export anew"
        )
    images = inputs.pictures(arguments.pictures, inputs.CHECKED)
    sizes = check_sizes(card, source, arguments.size)
    model = RetinaGraph(source.model).eval() if card.task == "detect" else source.model
    batches = [inputs.stretched(images, source.facts, size) for size in sizes]
    report = verify(runtime, file, model, batches, threads=arguments.threads)
    print(report_table(report))
    if report.fault is not None:
        raise UserError(report.fault)
    if arguments.data is not None:
        print(on_labelled(arguments, runtime, card, source))
    return 0


def check_sizes(
    card: Card, source: Source, given: Sequence[tuple[int, int]] | None
) -> list[tuple[int, int, int]]:
    """Batch, height and width of each input: the given ones, or what the file takes of several."""
    from slideformer import deploy

    if given is not None:
        batch = 1 if card.sizes.batch is None else card.sizes.batch
        return [(batch, *size) for size in given]
    usual = deploy.check_sizes(*source.size[1:])
    return list(dict.fromkeys(card.sizes.of(*size) for size in usual))


def on_labelled(arguments: argparse.Namespace, runtime: Runtime, card: Card, source: Source) -> str:
    """How often file and model give the same class, and the right one, on the hold-out of a source.

    Raises:
        UserError: the file does not classify or does not run here, or the data are not fit.
    """
    from slideformer.tasks.classify.compare import compare

    if source.facts["task"] != "classify" or not runtime.runs_here:
        raise UserError("--data goes with a classifier that runs here; leave it out")
    batch = card.sizes.batch
    run = runtime.open_file(arguments.file, arguments.threads)
    found = compare(
        source.model,
        lambda image: run(image)[0],
        arguments.data,
        card.facts,
        batch_size=32 if batch is None else batch,
    )
    return (
        f"{found.images} labelled pictures: same class {100 * found.agreement:.2f} %, top-1 of the file "
        f"{100 * found.other_top1:.2f} %, of the model {100 * found.top1:.2f} %"
    )
