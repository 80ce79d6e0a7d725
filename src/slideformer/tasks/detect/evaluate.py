# SPDX-License-Identifier: Apache-2.0
"""Evaluation of a detector, in COCO's figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision

from slideformer.dense.detector import HEADS
from slideformer.errors import UserError, naming, printable
from slideformer.models.finite import naming_image
from slideformer.runs import Run
from slideformer.tasks.detect import masks
from slideformer.tasks.detect.coco import CocoImage, CocoSet, read_coco
from slideformer.tasks.detect.data import eval_loader
from slideformer.tasks.detect.layout import find_split
from slideformer.tasks.detect.masks import RunLengths
from slideformer.tasks.detect.results import CocoResult, binary_masks, width_and_height, write_results
from slideformer.tasks.evaluate import Evaluation, Options, Progress, each_batch
from slideformer.tasks.training.batches import Batch
from slideformer.tasks.training.devices import all_gather_object
from slideformer.tasks.training.findings import Findings

BATCH = 2
# COCO's twelve figures, and torchmetrics' names of them.
FIGURES = {
    "AP": "map",
    "AP50": "map_50",
    "AP75": "map_75",
    "APs": "map_small",
    "APm": "map_medium",
    "APl": "map_large",
    "AR1": "mar_1",
    "AR10": "mar_10",
    "AR100": "mar_100",
    "ARs": "mar_small",
    "ARm": "mar_medium",
    "ARl": "mar_large",
}
KINDS: dict[str, Literal["bbox", "segm"]] = {"box": "bbox", "mask": "segm"}
# COCO's thresholds of overlap and of recall. torchmetrics' own are rounded to float32, which shifts a figure
# by some thousandths wherever a recall is one of them exactly.
OVERLAPS = np.linspace(0.5, 0.95, 10).tolist()
RECALLS = np.linspace(0, 1, 101).tolist()
# torchmetrics takes an area of 0 for none.
LEAST_AREA = 1e-9


@dataclass(frozen=True)
class Scores:
    """COCO's figures of boxes or of masks, shares of 1; None where the set has nothing to tell it by.

    Attributes:
        figures: the twelve by name.
        per_class: AP of each class, that of label 1 first.
    """

    figures: dict[str, float | None]
    per_class: tuple[float | None, ...]


@dataclass(frozen=True)
class DetectionEvaluation(Evaluation):
    """Results on annotated images.

    Attributes:
        class_names: that of label 1 first.
        scores: by kind, ``"box"`` and, of a detector that has them, ``"mask"``.
        images: how many images were looked at.
        unreadable: paths of images that were left out.
        found: all detections, for COCO's results.
        category_ids: the annotations' own number of each class, that of label 1 first.
        note: on annotations that were left out; empty if none was.
    """

    class_names: tuple[str, ...]
    scores: dict[str, Scores]
    images: int
    unreadable: tuple[str, ...] = ()
    found: tuple[CocoResult, ...] = field(default=(), repr=False)
    category_ids: tuple[int, ...] = ()
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        kinds = {
            kind: {**scores.figures, "classes": dict(zip(self.class_names, scores.per_class, strict=True))}
            for kind, scores in self.scores.items()
        }
        return {"images": self.images, **kinds, "unreadable": list(self.unreadable)}

    def table(self) -> str:
        """COCO's table in percent, then AP by class."""
        lines = ["%    " + "".join(f"{name:>7}" for name in FIGURES)]
        for kind, scores in self.scores.items():
            lines.append(f"{kind:<5}" + "".join(f"{percent(scores.figures[name]):>7}" for name in FIGURES))
        names = [printable(name) for name in self.class_names]
        width = max(5, *map(len, names))
        lines += ["", f"{'class':<{width}}" + "".join(f"{f'{kind} AP':>10}" for kind in self.scores)]
        for number, name in enumerate(names):
            figures = [percent(scores.per_class[number]) for scores in self.scores.values()]
            lines.append(f"{name:<{width}}" + "".join(f"{figure:>10}" for figure in figures))
        left_out = f", {len(self.unreadable)} left out" if self.unreadable else ""
        lines += ["", f"{self.images} images{left_out}{f'; {self.note}' if self.note else ''}"]
        return "\n".join(lines)

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``evaluation.json`` and COCO's results of boxes and masks."""
        return [*super().save(folder), *write_results(self.found, self.category_ids, Path(folder))]


def percent(figure: float | None) -> str:
    """A share as percent, a dash for none."""
    return "-" if figure is None else f"{100 * figure:.1f}"


class Evaluator:
    """Gathers detections and the truth, image by image; masks are compressed at once.

    Args:
        data: the truth, crowds and all, as pycocotools reads it.
        with_masks: whether masks are compared, too.

    Attributes:
        metric: what gathers; a list a kind of thing, with an entry for each image.
        image_ids: number of each image.
    """

    def __init__(self, data: CocoSet, *, with_masks: bool) -> None:
        masks.coco_mask()  # refuses, if the library is missing, before any work
        self.data = data
        self.kinds = dict(KINDS) if with_masks else {"box": KINDS["box"]}
        self.images = {image.image_id: image for image in data.images}
        self.metric = MeanAveragePrecision(
            box_format="xywh",
            iou_type=tuple(self.kinds.values()),
            iou_thresholds=OVERLAPS,
            rec_thresholds=RECALLS,
            extended_summary=True,
            backend="faster_coco_eval",
            sync_on_compute=False,
        )
        self.metric.warn_on_many_detections = False
        self.reset()

    def reset(self) -> None:
        """Forget everything gathered."""
        self.metric.reset()
        self.image_ids: list[int] = []

    def update(self, outputs: Sequence[Mapping[str, Tensor]], image_ids: Sequence[int]) -> None:
        """Take in what was found on some images.

        Args:
            outputs: of a detector of torchvision's kind.
            image_ids: numbers of the images.
        """
        found = []
        for output in outputs:
            row = {
                "boxes": width_and_height(output["boxes"]),
                "labels": output["labels"].cpu(),
                "scores": output["scores"].float().cpu(),
            }
            pixels = binary_masks(output) if "mask" in self.kinds else None
            found.append(row if pixels is None else {**row, "masks": pixels})
        self.metric.update(found, [self.truth(self.images[image_id]) for image_id in image_ids])
        self.image_ids += image_ids

    def truth(self, image: CocoImage) -> dict[str, Tensor]:
        """All annotations of an image."""
        rows = self.data.annotations[image.image_id]
        truth = {
            "boxes": torch.tensor([row.box for row in rows], dtype=torch.float64).reshape(-1, 4),
            "labels": torch.tensor([row.label for row in rows], dtype=torch.int64),
            "iscrowd": torch.tensor([int(row.crowd) for row in rows], dtype=torch.int64),
            "area": torch.tensor([row.area for row in rows], dtype=torch.float64).clamp(min=LEAST_AREA),
        }
        if "mask" in self.kinds:
            empty = RunLengths(image.height, image.width, b"")
            drawn = [torch.from_numpy(masks.decode(empty if row.mask is None else row.mask)) for row in rows]
            nothing = torch.zeros(0, image.height, image.width, dtype=torch.uint8)
            truth["masks"] = torch.stack(drawn) if drawn else nothing
        return truth

    def found(self) -> Iterator[CocoResult]:
        """The detections in each image of this device, for COCO's results."""
        metric: Any = self.metric
        for number, image_id in enumerate(self.image_ids):
            compressed = None
            if "mask" in self.kinds:
                compressed = tuple(
                    RunLengths(height, width, counts)
                    for (height, width), counts in metric.detection_mask[number]
                )
            yield CocoResult(
                image_id,
                metric.detection_box[number],
                metric.detection_labels[number],
                metric.detection_scores[number],
                compressed,
            )

    def figures(self) -> dict[str, Tensor]:
        """The figures of torchmetrics for the images of all devices, in the order of their numbers.

        Its own exchange waits for ever where devices have not equally many images.
        """
        state = cast("dict[str, list[Any]]", self.metric.metric_state)
        lists = {name: value for name, value in state.items() if value}
        everything = ordered(all_gather_object((self.image_ids, lists)))
        try:
            for name, value in everything.items():
                setattr(self.metric, name, value)
            return self.metric.compute()
        finally:
            for name in everything:
                setattr(self.metric, name, lists.get(name, []))

    def compute(self) -> dict[str, Scores]:
        """COCO's figures by kind, over all devices."""
        figures = self.figures()
        labels = figures["classes"].reshape(-1).tolist()
        scores = {}
        for kind, word in self.kinds.items():
            prefix = f"{word}_" if len(self.kinds) > 1 else ""
            precision = figures.get(f"{prefix}precision")
            by_label = dict.fromkeys(labels) if precision is None else class_precision(precision, labels)
            scores[kind] = Scores(
                {name: known(float(figures[f"{prefix}{key}"])) for name, key in FIGURES.items()},
                tuple(by_label.get(label) for label in range(1, len(self.data.categories) + 1)),
            )
        return scores


Share = tuple[list[int], dict[str, list[Any]]]


def ordered(shares: Sequence[Share]) -> dict[str, list[Any]]:
    """Lists of all shares as one each, in the order in which COCO's tools go through the images."""
    image_ids = [image_id for numbers, _ in shares for image_id in numbers]
    order = sorted(range(len(image_ids)), key=image_ids.__getitem__)
    merged = {}
    for name in dict.fromkeys(name for _, lists in shares for name in lists):
        values = [value for _, lists in shares for value in lists.get(name, [])]
        merged[name] = [values[place] for place in order]
    return merged


def class_precision(precision: Tensor, labels: Sequence[int]) -> dict[int, float | None]:
    """AP of each label.

    Args:
        precision: ``(thresholds, recalls, labels, sizes, limits)``, -1 where there is nothing; the first size
            is any, the last limit the highest.
        labels: in their order.
    """
    found = {}
    for number, label in enumerate(labels):
        values = precision[:, :, number, 0, -1]
        values = values[values > -1]
        found[label] = float(values.mean()) if values.numel() else None
    return found


def known(figure: float) -> float | None:
    """A figure, or None for COCO's -1."""
    return None if figure < 0 else figure


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    evaluator: Evaluator,
    *,
    name: str = "the model",
    progress: Progress | None = None,
) -> DetectionEvaluation:
    """Look for objects in every image once.

    Args:
        model: in evaluation mode; torchvision's convention: images in, a dictionary each out.
        batches: images of the evaluator's set, in its order.
        evaluator: gathers the detections.
        name: what to call the model in errors.
        progress: called after each batch with the number of images done and that of all.

    Raises:
        UserError: there is no readable image, or an output is not finite.
    """

    def step(batch: Batch, names: Sequence[str]) -> None:
        with naming_image(name, ", ".join(names)):
            outputs = model(batch.images)
        evaluator.update(outputs, [int(target["image_id"]) for target in batch.targets])

    images = [str(image.file) for image in evaluator.images.values()]
    count, unreadable = each_batch(batches, step, names=images, progress=progress)
    if not count:
        raise UserError("there must be an image to evaluate, got none; check the folder")
    data = evaluator.data
    found = tuple(evaluator.found())
    return DetectionEvaluation(
        tuple(data.class_names), evaluator.compute(), count, unreadable, found, tuple(data.category_ids)
    )


def evaluate_run(run: Run, data: str | Path, options: Options) -> DetectionEvaluation:
    """Evaluate a detection run on the hold-out of a data set in COCO's format."""
    with_masks = run.blueprint.head in HEADS and HEADS[run.blueprint.head].masks
    findings = Findings()
    with naming({"val_annotations": "`annotations`", "val_images": "`images`"}):
        split = find_split(data, "val", options.annotations, options.images)
        truth = read_coco(split, findings, with_masks=with_masks, drawn=run.orientation)
        findings.check()
    check_categories(run, truth)
    loader = eval_loader(
        truth,
        batch_size=BATCH if options.batch_size is None else options.batch_size,
        num_workers=options.num_workers,
        on_bad_image=options.on_bad_image,
    )
    evaluator = Evaluator(truth, with_masks=with_masks)
    figures = evaluate(run.model, loader, evaluator, name=run.name, progress=options.progress)
    return replace(figures, note=findings.summary())


def check_categories(run: Run, data: CocoSet) -> None:
    """Check that data have the model's categories."""
    model = dict(zip(run.category_ids or (), run.class_names, strict=False))
    here = dict(zip(data.category_ids, data.class_names, strict=True))
    if run.category_ids is not None and model != here:
        raise UserError(
            f"{data.file} must have the model's categories {model}, got {here}; "
            "give the data the model was trained for"
        )
