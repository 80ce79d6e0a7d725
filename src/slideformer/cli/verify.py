# SPDX-License-Identifier: Apache-2.0
"""`slideformer verify`: compare an exported file with the model that it was exported from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from slideformer.cli.export import open_model
from slideformer.cli.ranges import THREADS, side_lengths
from slideformer.errors import UserError

if TYPE_CHECKING:
    from slideformer.deploy import Card
    from slideformer.runs import Run

HELP = """Run an exported file in its runtime and compare it with the PyTorch model, on real images of several
sizes.

Exits with 2 where they differ by more than the file's precision may. With --data, on the hold-out as well:
of a classifier how often both give the same class, and how often each the right one; of a detector how far
boxes, scores and masks are apart."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare file, model and images."""
    parser.add_argument("file", type=Path, help="exported by `slideformer export`")
    parser.add_argument(
        "--model",
        default=None,
        metavar="RUN",
        help="that it was exported from; default: the run in whose folder it is",
    )
    parser.add_argument(
        "--images",
        "--pictures",
        nargs="+",
        default=(),
        metavar="IMAGES",
        help="to run, three at most; default: photographs",
    )
    parser.add_argument("--size", type=side_lengths, nargs="+", default=None, metavar="HxW", help="to run")
    parser.add_argument(
        "--data",
        default=None,
        metavar="SOURCE",
        help="labelled images: a folder with val/, one of class folders, one like COCO's, or `digits`; of a "
        "folder without val/, what the training held out",
    )
    parser.add_argument("--threads", type=THREADS, help="of the runtime; default: all")
    parser.add_argument(
        "--run-code", action="store_true", help="run a .pt2 package, which holds machine code: your own only"
    )


def run(arguments: argparse.Namespace) -> int:
    """Verify and print."""
    from slideformer.deploy import of_file, verify_run

    file: Path = arguments.file
    runtime = of_file(file)
    card = runtime.card(file)
    if runtime.holds_code and not arguments.run_code:
        raise UserError(
            f"{file} holds machine code that runs when it is opened; add --run-code if it is yours"
        )
    opened = model_of(file, card, arguments.model)
    held_out = None
    if arguments.data is not None and opened.task == "detect":
        from slideformer.tasks.detect.layout import find_split

        held_out = find_split(arguments.data, "val").images
    report = verify_run(
        opened, file, images=arguments.images, sizes=arguments.size, threads=arguments.threads
    )
    print(report)
    if report.fault is not None:
        raise UserError(report.fault)
    if held_out is not None:
        compare_hold_out(arguments, opened, held_out)
    elif arguments.data is not None:
        print(on_labelled(arguments, opened, card))
    return 0


def compare_hold_out(arguments: argparse.Namespace, opened: Run, folder: Path) -> None:
    """Print how far file and detector are apart in a folder of held-out images."""
    from slideformer.deploy import detection_fault, summary, verify_images

    rows = verify_images(opened, arguments.file, [folder], threads=arguments.threads)
    print(f"hold-out: {summary(rows)}")
    if fault := detection_fault(rows):
        raise UserError(fault)


def model_of(file: Path, card: Card, given: str | None) -> Run:
    """The model of a file: the given one, that of the folder around it, or the named one."""
    from slideformer.runs.folder import CONFIG

    if given is not None:
        return open_model(given)
    if card.facts.random:
        return open_model(card.facts.architecture, card.facts.num_classes)
    if (file.parent / CONFIG).is_file():
        return open_model(str(file.parent))
    raise UserError(f"{file} must be in the folder of its run, or --model must name it; give --model RUN")


def on_labelled(arguments: argparse.Namespace, opened: Run, card: Card) -> str:
    """How often file and model give the same class, and the right one, on the hold-out of a source."""
    from slideformer.deploy import of_file
    from slideformer.tasks.classify.compare import compare
    from slideformer.tasks.classify.evaluate import held_out_part

    runtime = of_file(arguments.file)
    if opened.task != "classify" or not runtime.runs_here:
        raise UserError("--data goes with a classifier or detector that runs here; leave it out")
    batch = card.sizes.batch
    session = runtime.open_file(arguments.file, arguments.threads)
    part = held_out_part(arguments.data, opened.val_fraction)
    found = compare(
        opened.model,
        lambda image: session(image)[0],
        arguments.data,
        card.facts,
        val_fraction=part,
        batch_size=32 if batch is None else batch,
    )
    return (
        f"{found.images} {'labelled' if part is None else 'held-out'} images: same class "
        f"{100 * found.agreement:.2f} %, top-1 of the file {100 * found.other_top1:.2f} %, "
        f"of the model {100 * found.top1:.2f} %"
    )
