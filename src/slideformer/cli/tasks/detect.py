# SPDX-License-Identifier: Apache-2.0
"""What the verbs do for detectors."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from slideformer.models.dense.detector import HEADS
from slideformer.models.dense.saved import DenseInfo, load_dense
from slideformer.tasks.detect.coco import CocoSet, read_coco
from slideformer.tasks.detect.data import eval_loader
from slideformer.tasks.detect.evaluate import Evaluator
from slideformer.tasks.detect.evaluate import evaluate as evaluate_model
from slideformer.tasks.detect.layout import find_split
from slideformer.tasks.detect.predict import predict as predictions
from slideformer.tasks.detect.results import Detections, write_results
from slideformer.tasks.orientation import drawn_in
from slideformer.tasks.pictures import find_images
from slideformer.tasks.training.findings import Findings

if TYPE_CHECKING:
    from slideformer.tasks.training.task import Task

BATCH, SCORE = 2, 0.5
EXAMPLES = """\
usage: slideformer train detect --model HEAD --backbone NAME --data DIR --output RUN [options]

  slideformer scenes data/scenes
  slideformer train detect --config scenes --data data/scenes --output runs/scenes
  slideformer train detect --config coco_mask_rcnn_slide_swin_tiny --data COCO --output runs/coco \\
      --model.weights runs/imagenet --trainer.devices 8
  slideformer train --resume runs/coco

HEAD is one of {heads}. DIR holds COCO's annotations/instances_{{train,val}}*.json beside
train*/ and val*/ with the pictures; `slideformer check-data detect DIR` looks at it first.
--config takes a YAML file or a recipe: {recipes}.
Every value of a recipe can be overridden by its path, as in --model.optimise.lr 1e-4.
"""


def training() -> Task:
    """What is trained, and on what."""
    from slideformer.tasks.detect.task import DETECT

    return DETECT


def examples() -> str:
    """What ``slideformer train detect --help`` begins with."""
    return EXAMPLES.format(heads=", ".join(HEADS), recipes=", ".join(training().recipes()))


def evaluate(arguments: argparse.Namespace, folder: Path) -> int:
    """Evaluate, print COCO's table, write ``evaluation.json`` and COCO's results."""
    model, info = load_dense(arguments.run)
    with_masks = HEADS[info.blueprint.head].masks
    findings = Findings()
    split = find_split(arguments.data, "val", arguments.annotations, arguments.images)
    data = read_coco(split, findings, with_masks=with_masks, drawn=drawn_in(info.extra))
    findings.refuse()
    refuse_other_categories(info, data)
    evaluator = Evaluator(data, with_masks=with_masks)
    loader = eval_loader(
        data,
        batch_size=BATCH if arguments.batch_size is None else arguments.batch_size,
        num_workers=arguments.num_workers,
        on_bad_image=arguments.on_bad_image,
    )
    result = evaluate_model(model, loader, evaluator, progress=told("pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "evaluation.json", json.dumps(result.to_dict(), indent=2) + "\n")
    files = [folder / "evaluation.json", *write_results(evaluator.found(), data.category_ids, folder)]
    if arguments.json:
        print(json.dumps(result.to_dict(), indent=2))
        return 0
    print(result.table())
    for path in result.unreadable:
        print_line(f"left out, unreadable: {path}")
    summary = findings.summary()
    print(f"\n{result.images} pictures{f'; {summary}' if summary else ''}")
    print_line(f"written: {', '.join(map(str, files))}")
    return 0


def refuse_other_categories(info: DenseInfo, data: CocoSet) -> None:
    """Refuse data whose categories are not the model's.

    Raises:
        UserError: numbers or names differ.
    """
    model = dict(zip(info.category_ids or (), info.label_names, strict=False))
    here = dict(zip(data.category_ids, data.class_names, strict=True))
    if info.category_ids is not None and model != here:
        raise UserError(
            f"{data.file} must have the model's categories {model}, got {here}; "
            "give the data the model was trained for"
        )


def predict(arguments: argparse.Namespace) -> int:
    """Print a line a picture; draw what was found, and write it as COCO's results."""
    from slideformer.viz import draw_detections, save_detections

    score = SCORE if arguments.score is None else arguments.score
    model, info = load_dense(arguments.run)
    classes = Classes.of(info)
    paths = find_images(arguments.images)
    files = picture_files(paths, output_folder(arguments))
    found: list[Detections] = []
    for row in predictions(model, paths, score=score, on_bad_image=arguments.on_bad_image):
        if row.picture is None or row.found is None:
            tell_unreadable(row.path, str(row.error), arguments.json)
            continue
        found.append(row.found)
        save_detections(
            draw_detections(row.picture, class_names=classes.names, **row.drawable()), files[row.path]
        )
        if arguments.json:
            print(json.dumps({"path": str(row.path), "detections": classes.rows(row.found)}))
        else:
            print_line(f"{row.path}  {classes.words(row.found)}  -> {files[row.path]}")
    refuse_nothing_read(len(paths) - len(found), len(paths))
    folder = output_folder(arguments)
    written = write_results(found, classes.ids, folder)
    index = [{"id": number, "file_name": str(path)} for number, path in enumerate(paths, start=1)]
    write_text(folder / "images.json", json.dumps(index, indent=2) + "\n")
    if not arguments.json:
        names = ", ".join(file.name for file in written)
        print_line(f"written: {len(found)} pictures, COCO's results {names}, and images.json in {folder}")
    return 0


@dataclass(frozen=True)
class Classes:
    """What a detector's labels, from 1, are called.

    Attributes:
        names: of each class, that of label 1 first.
        ids: its number in the data that the detector was trained on.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]

    @classmethod
    def of(cls, info: DenseInfo) -> Classes:
        """The classes of a saved detector, by their numbers where it has no names."""
        numbers = tuple(range(1, info.blueprint.num_classes + 1))
        return cls(info.label_names or tuple(map(str, numbers)), info.category_ids or numbers)

    def rows(self, found: Detections) -> list[dict[str, Any]]:
        """COCO's results of a picture, with names."""
        labels = found.labels.tolist()
        rows = found.rows(self.ids)
        return [{"name": self.names[label - 1], **row} for label, row in zip(labels, rows, strict=True)]

    def words(self, found: Detections) -> str:
        """How many of each class, in a line."""
        counts = Counter(self.names[label - 1] for label in found.labels.tolist())
        return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"
