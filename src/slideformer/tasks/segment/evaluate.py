# SPDX-License-Identifier: Apache-2.0
"""How good a segmenter is on pictures with label maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.errors import UserError, printable
from slideformer.models.dense.saved import load_dense
from slideformer.models.dense.sliding import Progress, Sliding, label_map, likeliest
from slideformer.models.finite import naming_image
from slideformer.tasks.orientation import drawn_in
from slideformer.tasks.pictures import OnBadImage
from slideformer.tasks.segment.augment import resize_labels
from slideformer.tasks.segment.data import eval_loader
from slideformer.tasks.segment.dataset import SegmentationBatch
from slideformer.tasks.segment.layout import open_source


@dataclass(frozen=True)
class SegmentationEvaluation:
    """Results on pictures with label maps, as OpenMMLab counts them.

    Attributes:
        class_names: in the order of their numbers.
        confusion: ``(classes, classes)``, pixels by true class (row) and predicted class (column); pixels
            without a label are not among them.
        pictures: how many were segmented.
        unreadable: names of those that were left out.
    """

    class_names: tuple[str, ...]
    confusion: Tensor
    pictures: int = 0
    unreadable: tuple[str, ...] = ()

    @property
    def ious(self) -> Tensor:
        """Intersection over union of each class; not a number where it is neither there nor predicted."""
        hits = self.confusion.diag().double()
        return hits / (self.confusion.sum(0) + self.confusion.sum(1) - hits)

    @property
    def accuracies(self) -> Tensor:
        """Share of each class's pixels that are found; not a number where it is not there."""
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
        """Name, number of pixels, intersection over union and accuracy of each class; None for no number."""
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
            "pictures": self.pictures,
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
        return "\n".join(
            [*lines, f"mIoU {percent(self.miou)}  mAcc {percent(self.macc)}  aAcc {percent(self.aacc)}"]
        )


def number(x: float) -> float | None:
    """The number, or None where it is none."""
    return None if x != x else x


def percent(share: float | None) -> str:
    """A share in percent, or a dash."""
    return "-" if share is None else f"{100 * share:.2f}"


def confusion_of(labels: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Pixels by true class (row) and predicted class (column), those without a label left out.

    Args:
        labels: predicted class numbers, of any shape.
        targets: true class numbers, of the same shape; `IGNORED` where there is none.
        classes: how many there are.
    """
    labelled = targets < classes
    pairs = targets[labelled].long() * classes + labels[labelled].long()
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


@torch.inference_mode()
def segment(
    model: nn.Module,
    image: Tensor,
    size: tuple[int, int],
    *,
    sliding: Sliding | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """The likeliest class of every pixel of a picture that may have been resized for the model.

    Args:
        model: in evaluation mode.
        image: ``(3, height, width)``, for the model, on any device.
        size: height and width of the result. The whole picture's logits are interpolated; of windows the
            labels are, since memory does not hold all logits.
        sliding: windows; None for the whole picture at once.
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
    batches: Iterable[SegmentationBatch],
    class_names: Sequence[str],
    *,
    sliding: Sliding | None = None,
    progress: Callable[[int], None] | None = None,
    names: Sequence[str] = (),
) -> SegmentationEvaluation:
    """Segment every picture once.

    Args:
        model: in evaluation mode; maps ``(1, 3, height, width)`` to logits ``(1, classes, height, width)``.
        batches: of one labelled picture each.
        class_names: in the order of the logits.
        sliding: windows; None for whole pictures.
        progress: called with the number of pictures done.
        names: of all pictures, readable or not, in their order, for errors.

    Raises:
        UserError: there is no readable picture with a label, or an answer is not finite.
    """
    classes = len(class_names)
    confusion = torch.zeros(classes, classes, dtype=torch.long)
    unreadable: list[str] = []
    pictures = 0
    for batch in batches:
        unreadable += batch.check().unreadable
        for image, mask in zip(batch.images, batch.masks, strict=True):
            height, width = mask.shape
            with naming_image(model, names[pictures + len(unreadable)] if names else f"image {pictures + 1}"):
                labels = segment(model, image, (height, width), sliding=sliding)
            confusion += confusion_of(labels, mask.cpu(), classes)
            pictures += 1
        if progress is not None:
            progress(pictures + len(unreadable))
    if not confusion.any():
        raise UserError("there must be a labelled pixel to evaluate, got none; check the folder")
    return SegmentationEvaluation(tuple(class_names), confusion, pictures, tuple(unreadable))


def evaluate_folder(
    folder: str | Path,
    source: str | Path,
    *,
    num_workers: int = 0,
    on_bad_image: OnBadImage = "skip",
    sliding: Sliding | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SegmentationEvaluation:
    """Evaluate the model of a run's folder on the hold-out of a data set.

    Args:
        folder: of a finished run.
        source: folder of the data set.
        num_workers: processes that read pictures.
        on_bad_image: ``skip`` leaves an unreadable pair out and tells its path; ``stop`` stops.
        sliding: windows; None for whole pictures.
        progress: called after each picture with the number done and the number of all.

    Raises:
        UserError: folder or source are not fit, or their classes differ.
    """
    model, info = load_dense(folder)
    opened = open_source(source, drawn_in(info.extra))
    if info.label_names and info.label_names != opened.class_names:
        raise UserError(
            f"{source} must have the model's classes, {', '.join(info.label_names)}, got "
            f"{', '.join(opened.class_names)}; give the data the model was trained for"
        )
    loader = eval_loader(
        opened,
        short_side=info.extra.get("short_side"),
        num_workers=num_workers,
        on_bad_image=on_bad_image,
    )
    tell = None if progress is None else lambda done: progress(done, len(loader))
    names = [str(pair.image) for pair in opened.split("val").pairs]
    return evaluate(model, loader, opened.class_names, sliding=sliding, progress=tell, names=names)
