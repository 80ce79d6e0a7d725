# SPDX-License-Identifier: Apache-2.0
"""Evaluation of a segmenter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.dense.sliding import Progress as WindowProgress
from slideformer.dense.sliding import Sliding, label_map, likeliest
from slideformer.errors import UserError, printable
from slideformer.models.finite import naming_image
from slideformer.runs import Run
from slideformer.tasks.evaluate import Evaluation, Options, Progress, confusion_of, each_batch
from slideformer.tasks.segment.augment import resize_labels
from slideformer.tasks.segment.data import eval_loader
from slideformer.tasks.segment.layout import open_source
from slideformer.tasks.training.batches import Batch


@dataclass(frozen=True)
class SegmentationEvaluation(Evaluation):
    """The figures on images with label maps, as OpenMMLab counts them.

    Attributes:
        class_names: in the order of their numbers.
        confusion: ``(classes, classes)``, pixels by true class (row) and predicted class (column); pixels
            without a label are not among them.
        images: how many images were segmented.
        unreadable: paths of those that were left out.
    """

    class_names: tuple[str, ...]
    confusion: Tensor
    images: int = 0
    unreadable: tuple[str, ...] = ()

    @property
    def ious(self) -> Tensor:
        """Intersection over union of each class; NaN where it is neither there nor predicted."""
        hits = self.confusion.diag().double()
        return hits / (self.confusion.sum(0) + self.confusion.sum(1) - hits)

    @property
    def accuracies(self) -> Tensor:
        """Share of each class's pixels that are found; NaN where it is not there."""
        return self.confusion.diag().double() / self.confusion.sum(1)

    @property
    def miou(self) -> float:
        """Mean intersection over union, over classes that have one."""
        return float(self.ious.nanmean())

    @property
    def macc(self) -> float:
        """Mean accuracy, over classes that are there."""
        return float(self.accuracies.nanmean())

    @property
    def aacc(self) -> float:
        """Share of all labelled pixels that are right."""
        return float(self.confusion.diag().sum() / self.confusion.sum())

    def per_class(self) -> list[dict[str, Any]]:
        """Name, number of pixels, intersection over union and accuracy of each class; None for NaN."""
        columns = zip(
            self.ious.tolist(), self.accuracies.tolist(), self.confusion.sum(1).tolist(), strict=True
        )
        return [
            {"name": name, "pixels": pixels, "iou": number(iou), "accuracy": number(accuracy)}
            for name, (iou, accuracy, pixels) in zip(self.class_names, columns, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            "images": self.images,
            "miou": self.miou,
            "macc": self.macc,
            "aacc": self.aacc,
            "classes": self.per_class(),
            "confusion": self.confusion.tolist(),
            "unreadable": list(self.unreadable),
        }

    def table(self) -> str:
        """The figures for a terminal, in percent."""
        names = [printable(name) for name in self.class_names]
        width = max(len("class"), *map(len, names))
        lines = [f"{'class':<{width}}{'IoU':>8}{'Acc':>8}"]
        for name, row in zip(names, self.per_class(), strict=True):
            lines.append(f"{name:<{width}}{percent(row['iou']):>8}{percent(row['accuracy']):>8}")
        lines.append(f"{'all classes':<{width}}{percent(self.miou):>8}{percent(self.macc):>8}")
        return "\n".join([*lines, self.summary()])

    def summary(self) -> str:
        """The means, and how many images they are of."""
        left_out = f", {len(self.unreadable)} left out" if self.unreadable else ""
        return (
            f"mIoU {percent(self.miou)}  mAcc {percent(self.macc)}  aAcc {percent(self.aacc)}   "
            f"({self.images} images{left_out})"
        )


def number(x: float) -> float | None:
    """The number, or None for NaN."""
    return None if x != x else x


def percent(share: float | None) -> str:
    """A share in percent, or a dash."""
    return "-" if share is None else f"{100 * share:.2f}"


@torch.inference_mode()
def segment(
    model: nn.Module,
    image: Tensor,
    size: tuple[int, int],
    *,
    sliding: Sliding | None = None,
    progress: WindowProgress | None = None,
) -> Tensor:
    """Compute the likeliest class of every pixel of an image that may have been resized for the model.

    Args:
        model: in evaluation mode.
        image: ``(3, height, width)``, for the model, on any device.
        size: height and width of the result. The logits of a whole image are interpolated; of windows the
            labels are, since memory does not hold all logits.
        sliding: windows; None for the whole image at once.
        progress: called after each window.
    """
    if tuple(image.shape[-2:]) == size:
        return label_map(model, image, sliding=sliding, progress=progress)
    if sliding is None:
        device = next(model.parameters(), image).device
        logits = F.interpolate(model(image[None].to(device)), size, mode="bilinear", align_corners=False)
        return likeliest(logits[0])
    # Class numbers are below 256, and only bytes are resized by the nearest.
    labels = label_map(model, image, sliding=sliding, progress=progress)
    return resize_labels(labels.to(torch.uint8), size).int()


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    class_names: Sequence[str],
    *,
    name: str = "the model",
    images: Sequence[str] = (),
    sliding: Sliding | None = None,
    progress: Progress | None = None,
) -> SegmentationEvaluation:
    """Segment every image once.

    Args:
        model: in evaluation mode; maps ``(1, 3, height, width)`` to logits ``(1, classes, height, width)``.
        batches: of one labelled image each.
        class_names: in the order of the logits.
        name: what to call the model in errors.
        images: names of all images, readable or not, in order, for errors.
        sliding: windows; None for whole images.
        progress: called after each image with the number done and that of all.

    Raises:
        UserError: there is no readable image with a label, or an output is not finite.
    """
    classes = len(class_names)
    confusion = torch.zeros(classes, classes, dtype=torch.long)

    def step(batch: Batch, names: Sequence[str]) -> None:
        nonlocal confusion
        (image,), (mask,) = batch.images, batch.targets
        height, width = mask.shape
        with naming_image(name, next(iter(names), "an image")):
            labels = segment(model, image, (height, width), sliding=sliding)
        confusion += confusion_of(labels, mask.cpu(), classes)

    count, unreadable = each_batch(batches, step, names=images, progress=progress)
    if not confusion.any():
        raise UserError("there must be a labelled pixel to evaluate, got none; check the folder")
    return SegmentationEvaluation(tuple(class_names), confusion, count, unreadable)


def check_batch(batch_size: int | None) -> None:
    """Check that images are to be segmented one by one."""
    if batch_size not in (None, 1):
        raise UserError(
            f"images of different sizes are segmented one by one, got `batch_size` {batch_size}; leave it out"
        )


def evaluate_run(run: Run, data: str | Path, options: Options) -> SegmentationEvaluation:
    """Evaluate a segmentation run on the hold-out of a data set."""
    check_batch(options.batch_size)
    source = open_source(data, run.orientation)
    if run.class_names and run.class_names != source.class_names:
        raise UserError(
            f"{data} must have the model's classes, {', '.join(run.class_names)}, got "
            f"{', '.join(source.class_names)}; give the data the model was trained for"
        )
    loader = eval_loader(
        source,
        short_side=run.short_side,
        num_workers=options.num_workers,
        on_bad_image=options.on_bad_image,
    )
    return evaluate(
        run.model,
        loader,
        source.class_names,
        name=run.name,
        images=[str(pair.image) for pair in source.split("val").pairs],
        sliding=options.sliding,
        progress=options.progress,
    )
