# SPDX-License-Identifier: Apache-2.0
"""What the verbs do for segmenters."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from slideformer.cli.tasks import (
    output_folder,
    picture_files,
    refuse_nothing_read,
    tell_unreadable,
    told,
)
from slideformer.console import print_line
from slideformer.errors import UserError
from slideformer.files import write_text
from slideformer.models.dense.saved import load_dense
from slideformer.models.dense.segmenter import HEADS
from slideformer.models.dense.sliding import Sliding
from slideformer.tasks.pictures import find_images
from slideformer.tasks.segment.evaluate import evaluate_folder
from slideformer.tasks.segment.predict import predict as predictions
from slideformer.tasks.segment.predict import save_labels

if TYPE_CHECKING:
    from slideformer.tasks.training.task import Task

# A class of this name is what no colour is drawn for.
BACKGROUND = "background"
# What the name of a label map ends in, beside that of the drawn picture.
LABELS = "_labels"
EXAMPLES = """\
usage: slideformer train segment --model HEAD --backbone NAME --data DIR --output RUN [options]

  slideformer scenes data/scenes
  slideformer train segment --config scenes --data data/scenes --output runs/scenes-segment
  slideformer train segment --config ade20k_upernet_slide_swin_tiny --data ADE --output runs/ade \\
      --model.weights runs/imagenet --trainer.devices 8
  slideformer train --resume runs/ade

HEAD is one of {heads}. DIR holds images/{{train,val}} and masks/{{train,val}}, or train, val and
masks/{{train,val}}, with classes.txt; or ADE20K as it is unpacked.
`slideformer check-data segment DIR` looks at it first.
--config takes a YAML file or a recipe: {recipes}.
Every value of a recipe can be overridden by its path, as in --model.optimise.lr 1e-4.
"""


def training() -> Task:
    """What is trained, and on what."""
    from slideformer.tasks.segment.task import SEGMENT

    return SEGMENT


def examples() -> str:
    """What ``slideformer train segment --help`` begins with."""
    return EXAMPLES.format(heads=", ".join(HEADS), recipes=", ".join(training().recipes()))


def evaluate(arguments: argparse.Namespace, folder: Path) -> int:
    """Evaluate, print a table by class, write ``evaluation.json``."""
    if arguments.batch_size not in (None, 1):
        raise UserError(
            f"pictures of different sizes are segmented one by one, got --batch-size {arguments.batch_size}; "
            "leave it out"
        )
    result = evaluate_folder(
        arguments.run,
        arguments.data,
        num_workers=arguments.num_workers,
        on_bad_image=arguments.on_bad_image,
        sliding=sliding_of(arguments),
        progress=told("pictures"),
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "evaluation.json", json.dumps(result.to_dict(), indent=2) + "\n")
    if arguments.json:
        print(json.dumps(result.to_dict(), indent=2))
        return 0
    print(result.table())
    for path in result.unreadable:
        print_line(f"left out, unreadable: {path}")
    print()
    print_line(f"{result.pictures} pictures; written: {folder / 'evaluation.json'}")
    return 0


def sliding_of(arguments: argparse.Namespace) -> Sliding | None:
    """The windows that were asked for.

    Raises:
        UserError: a stride without a window, or windows that leave gaps.
    """
    window, stride = arguments.window, arguments.stride
    if window is None:
        if stride is not None:
            raise UserError(f"--stride goes with --window, got {stride} alone; give both")
        return None
    return Sliding(window, max(1, 2 * window // 3) if stride is None else stride)


def predict(arguments: argparse.Namespace) -> int:
    """Print a line a picture; draw its classes, and write them as a label map."""
    from slideformer.viz import class_colours, segmentation_picture

    sliding = sliding_of(arguments)
    model, info = load_dense(arguments.run)
    classes = info.blueprint.num_classes
    names = info.label_names or tuple(map(str, range(classes)))
    colours = class_colours(classes, background=names[0] == BACKGROUND)
    paths = find_images(arguments.images)
    folder = output_folder(arguments)
    files = picture_files(paths, folder, LABELS)
    unreadable = 0
    rows = predictions(
        model,
        info,
        paths,
        sliding=sliding,
        on_bad_image=arguments.on_bad_image,
        progress=None if sliding is None else told("windows"),
    )
    for row in rows:
        if row.labels is None:
            unreadable += 1
            tell_unreadable(row.path, str(row.error), arguments.json)
            continue
        file = files[Path(row.path)]
        labels = file.with_name(f"{file.stem}{LABELS}.png")
        save_labels(row.labels, colours, labels)
        segmentation_picture(row.image, row.labels, names, file, colours)
        if arguments.json:
            print(json.dumps({**row.to_dict(), "labels": str(labels)}))
        else:
            words = "  ".join(f"{name} {100 * share:.1f} %" for name, share in row.shares)
            print_line(f"{row.path}  {words}  -> {file}")
    refuse_nothing_read(unreadable, len(paths))
    if not arguments.json:
        print_line(f"written: {len(paths) - unreadable} pictures and label maps in {folder}")
    return 0
