# SPDX-License-Identifier: Apache-2.0
"""What the verbs do for classifiers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from slideformer.cli.tasks import refuse_nothing_read, tell_unreadable
from slideformer.console import print_line
from slideformer.errors import printable
from slideformer.files import write_text
from slideformer.models import load_pretrained
from slideformer.tasks.classify.evaluate import Evaluation, evaluate_folder
from slideformer.tasks.classify.predict import predict as predictions
from slideformer.tasks.pictures import find_images

if TYPE_CHECKING:
    from slideformer.tasks.training.task import Task

BATCH, TOP = 64, 5
EXAMPLES = """\
usage: slideformer train --model NAME --data SOURCE --output RUN [options]

  slideformer train --config digits --output runs/digits
  slideformer train --model slide_swin_tiny --data DIR --output runs/mine --trainer.max_epochs 50
  slideformer train --config imagenet_slide_swin_tiny --data DIR --output runs/imagenet --trainer.devices 8
  slideformer train --resume runs/mine
  slideformer train detect --help
  slideformer train segment --help

SOURCE is a folder with train/ and val/, each with a folder of images a class; `digits`; or a source of
timm such as wds/NAME. --config takes a YAML file or a recipe: {recipes}.
Every value of a recipe can be overridden by its path, as in --model.optimise.lr 1e-3.
"""


def training() -> Task:
    """What is trained, and on what."""
    from slideformer.tasks.classify.task import CLASSIFY

    return CLASSIFY


def examples() -> str:
    """What ``slideformer train --help`` begins with."""
    return EXAMPLES.format(recipes=", ".join(training().recipes()))


def evaluate(arguments: argparse.Namespace, folder: Path) -> int:
    """Evaluate, print, write ``evaluation.json`` and ``confusion.png``."""
    from slideformer.viz import confusion_matrix

    result = evaluate_folder(
        arguments.run,
        arguments.data,
        batch_size=BATCH if arguments.batch_size is None else arguments.batch_size,
        num_workers=arguments.num_workers,
        on_bad_image=arguments.on_bad_image,
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "evaluation.json", json.dumps(result.to_dict(), indent=2) + "\n")
    confusion_matrix(result.confusion, result.class_names, folder / "confusion.png")
    if arguments.json:
        print(json.dumps(result.to_dict(), indent=2))
        return 0
    print(table(result))
    for path in result.unreadable:
        print_line(f"left out, unreadable: {path}")
    print_line(f"written: {folder / 'evaluation.json'}, {folder / 'confusion.png'}")
    return 0


def table(result: Evaluation) -> str:
    """Accuracy, and one line a class."""
    rows = [{**row, "name": printable(row["name"])} for row in result.per_class()]
    width = max(5, *(len(row["name"]) for row in rows))
    lines = [f"{'class':<{width}}{'images':>9}{'recall %':>11}{'precision %':>13}"]
    for row in rows:
        recall, precision = (
            "-" if row[key] is None else f"{100 * row[key]:.2f}" for key in ("recall", "precision")
        )
        lines.append(f"{row['name']:<{width}}{row['images']:>9}{recall:>11}{precision:>13}")
    left_out = f", {len(result.unreadable)} left out" if result.unreadable else ""
    lines.append(
        f"top-1 {100 * result.top1:.2f} %   top-5 {100 * result.top5:.2f} %   loss {result.loss:.4f}   "
        f"({result.images} images{left_out})"
    )
    return "\n".join(lines)


def predict(arguments: argparse.Namespace) -> int:
    """Print a line a picture; what could not be read is told and counted."""
    top = TOP if arguments.top is None else arguments.top
    model, info = load_pretrained(arguments.run)
    paths = find_images(arguments.images)
    unreadable = 0
    for prediction in predictions(model, info, paths, top=top, on_bad_image=arguments.on_bad_image):
        if prediction.error is not None:
            unreadable += 1
            tell_unreadable(prediction.path, prediction.error, arguments.json)
        elif arguments.json:
            classes = [{"name": name, "probability": share} for name, share in prediction.classes]
            print(json.dumps({"path": prediction.path, "classes": classes}))
        else:
            words = "  ".join(f"{name} {100 * share:.1f} %" for name, share in prediction.classes)
            print_line(f"{prediction.path}  {words}")
    refuse_nothing_read(unreadable, len(paths))
    return 0
