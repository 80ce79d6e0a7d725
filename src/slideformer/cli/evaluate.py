# SPDX-License-Identifier: Apache-2.0
"""`slideformer evaluate`: accuracy of a trained classifier on labelled images."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from slideformer.errors import UserError
from slideformer.files import write_text

if TYPE_CHECKING:
    from slideformer.tasks.classify.evaluate import Evaluation

HELP = "Top-1, top-5, a table by class and the confusion of classes, as evaluation.json and confusion.png."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare run, data and what to do with bad images."""
    parser.add_argument("run", type=Path, help="folder of a finished run, or any of timm's local-dir folders")
    parser.add_argument("--data", required=True, help="folder with val/ or of class folders, or `digits`")
    parser.add_argument("--batch-size", type=int, default=64, help="images a batch")
    parser.add_argument("--num-workers", type=int, default=0, help="processes that read images")
    parser.add_argument("--on-bad-image", choices=("skip", "stop"), default="skip", help="unreadable images")
    parser.add_argument(
        "--output", type=Path, default=None, help="folder of the results; the run's if not given"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print, write."""
    from slideformer.tasks.classify.evaluate import evaluate_folder
    from slideformer.viz import confusion_matrix

    folder = arguments.run if arguments.output is None else arguments.output
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output must be a folder, got the file {folder}; choose another place")
    result = evaluate_folder(
        arguments.run,
        arguments.data,
        batch_size=arguments.batch_size,
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
        print(f"left out, unreadable: {path}")
    print(f"written: {folder / 'evaluation.json'}, {folder / 'confusion.png'}")
    return 0


def table(result: Evaluation) -> str:
    """Accuracy, and one line a class."""
    width = max(5, *(len(name) for name in result.class_names))
    lines = [f"{'class':<{width}}{'images':>9}{'recall %':>11}{'precision %':>13}"]
    for row in result.per_class():
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
