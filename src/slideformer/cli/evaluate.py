# SPDX-License-Identifier: Apache-2.0
"""`slideformer evaluate`: measure a trained model on labelled data."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from slideformer.cli.computing import RUN, add_computing, computing_of, results_folder
from slideformer.cli.ranges import whole
from slideformer.console import counted, print_line
from slideformer.errors import UserError

HELP = (
    "Classifiers: top-1, top-5, a table by class and the confusion of classes; detectors: COCO's table; "
    "segmenters: mIoU, mAcc, aAcc and a table by class. Also written as evaluation.json, and into the card "
    "of the run, its README.md."
)
# The options that change figures.
CONDITIONS = ("precision", "val_fraction", "root", "split", "annotations", "images", "window", "stride")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare run, data, and how unreadable images are treated."""
    parser.add_argument("run", type=Path, help=RUN)
    parser.add_argument(
        "--data", required=True, help="what the run was trained on, or other data of that form"
    )
    add_computing(parser)
    parser.add_argument(
        "--output",
        type=Path,
        default=None,
        help="folder of the results; default: that of the run, or FILE.results of an exported file",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    classification = parser.add_argument_group("classifiers")
    classification.add_argument(
        "--val-fraction",
        type=float,
        default=None,
        help="of a folder without val/, the part of each class to evaluate on, 1 for all; default: what the "
        "training held out; of a source with --root, the part of the training split that the training held "
        "out; default: another split, see --split",
    )
    classification.add_argument("--root", default=None, help="folder of a source such as torch/fashion_mnist")
    classification.add_argument(
        "--split",
        default=None,
        help="which split of it; default: validation, which of torchvision's sources is the test split",
    )
    detection = parser.add_argument_group("detectors")
    detection.add_argument(
        "--annotations", default=None, help="COCO file of the hold-out, where it is not in DATA"
    )
    detection.add_argument("--images", default=None, help="folder of its images")
    add_window(parser)


def add_window(parser: argparse.ArgumentParser) -> None:
    """Declare the windows in which a segmenter goes over a large image."""
    segmentation = parser.add_argument_group("segmenters")
    segmentation.add_argument(
        "--window",
        type=whole(1, 65536),
        default=None,
        help="side in pixels of a window that slides; default: the whole image",
    )
    segmentation.add_argument(
        "--stride",
        type=whole(1, 65536),
        default=None,
        help="pixels from one window to the next; default: two thirds of a window",
    )


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print, write."""
    from slideformer.runs import open_run
    from slideformer.tasks.evaluate import evaluate

    folder = results_folder(arguments.run) if arguments.output is None else arguments.output
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output must be a folder, got the file {folder}; choose another place")
    trained = open_run(arguments.run)
    figures = evaluate(
        trained,
        arguments.data,
        **computing_of(arguments),
        on_bad_image=arguments.on_bad_image,
        val_fraction=arguments.val_fraction,
        root=arguments.root,
        split=arguments.split,
        annotations=arguments.annotations,
        images=arguments.images,
        window=arguments.window,
        stride=arguments.stride,
        progress=counted("images"),
    )
    values, files = figures.to_dict(), figures.save(folder)
    print(json.dumps(values, indent=2) if arguments.json else figures)
    if folder.samefile(arguments.run):
        files += card_of(arguments, values, trained.val_fraction)
    if arguments.json:
        return 0
    for path in figures.unreadable:
        print_line(f"left out, unreadable: {path}")
    print_line(f"written: {', '.join(map(str, files))}")
    return 0


def card_of(arguments: argparse.Namespace, values: dict[str, Any], held_out: float | None) -> list[Path]:
    """Put figures into the card of the run; where that fails, print why.

    Args:
        arguments: of the command.
        values: the figures, by name.
        held_out: the part of each class that the training held out; None for none.

    Returns:
        The card; nothing where it fails, or where the run has no record of its training.
    """
    from slideformer.tasks.model_card import (
        CARD,
        Evaluated,
        known_figures,
        read_record,
        shareable,
        write_card,
    )

    source = shareable(arguments.data)
    words = ["slideformer", "evaluate", shareable(str(arguments.run)), "--data", source]
    for name in CONDITIONS:
        value = getattr(arguments, name)
        words += [] if value is None else [f"--{name.replace('_', '-')}", shareable(str(value))]
    other_part = arguments.val_fraction not in (None, held_out) or (arguments.split or "").startswith("train")
    try:
        record = read_record(arguments.run)
        evaluated = Evaluated(
            figures=known_figures(values),
            images=values["images"],
            data=", ".join([source, *part_of(arguments, values, held_out)]),
            command=shlex.join(words),
            trained_on=other_part and record is not None and record.data == source,
        )
        card = write_card(arguments.run, evaluated)
    except UserError as error:  # the figures themselves are written
        print_line(f"{CARD} is not written, all else is: {error}", to_stderr=arguments.json)
        return []
    return [] if card is None else [card]


def part_of(arguments: argparse.Namespace, values: dict[str, Any], held_out: float | None) -> list[str]:
    """Which part of the data was evaluated, in words; nothing where no part was chosen.

    Args:
        arguments: of the command.
        values: the figures, by name.
        held_out: the part of each class that the training held out; None for none.
    """
    split = [] if arguments.split is None else [f"split {arguments.split}"]
    asked = arguments.val_fraction
    if asked is None:
        return [*split, *(["held-out part"] if values.get("val_fraction") else [])]
    part = "all images" if asked == 1 else "held-out part" if asked == held_out else f"a part of {asked:g}"
    return [*split, part]
