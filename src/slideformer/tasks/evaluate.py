# SPDX-License-Identifier: Apache-2.0
"""Evaluation, the same for every task: go over labelled images once, gather figures, report them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slideformer.dense.sliding import Sliding
from slideformer.errors import check_range
from slideformer.files import write_text
from slideformer.runs import Run, placed
from slideformer.tasks.images import OnBadImage
from slideformer.tasks.predict import check_task, windows
from slideformer.tasks.table import find_task
from slideformer.tasks.training.batches import Workers, check_workers

# Called with the number of images done and that of all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of an evaluation; each task takes its own.

    Attributes:
        batch_size: images a batch; None for the task's own number.
        num_workers: processes that read images; 0 reads in this one; others as of `ordered_loader`.
        on_bad_image: ``skip`` leaves an unreadable image out; ``stop`` raises.
        val_fraction: of each class of a folder that is held out, 1 for all; None for that of the training.
        root: folder of a source of timm.
        split: name of its hold-out split.
        annotations: COCO's file of the hold-out; None to find it in the data.
        images: the folder of its images; None to find it in the data.
        sliding: windows of a segmenter; None for whole images.
        progress: called after each batch with the number of images done and that of all.
    """

    batch_size: int | None = None
    num_workers: Workers = None
    on_bad_image: OnBadImage = "skip"
    val_fraction: float | None = None
    root: str | None = None
    split: str | None = None
    annotations: str | Path | None = None
    images: str | Path | None = None
    sliding: Sliding | None = None
    progress: Progress | None = None


class Evaluation:
    """The figures of an evaluation, with the same methods for the three tasks."""

    unreadable: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values."""
        raise NotImplementedError

    def table(self) -> str:
        """The figures for a terminal, in percent."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.table()

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``evaluation.json``, and what else the task has.

        Args:
            folder: created where it does not exist.

        Returns:
            The files.

        Raises:
            UserError: the folder cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "evaluation.json", json.dumps(self.to_dict(), indent=2) + "\n")
        return [folder / "evaluation.json"]


def evaluate(
    run: Run,
    data: str | Path,
    *,
    device: str | None = None,
    batch_size: int | None = None,
    num_workers: Workers = None,
    precision: str | None = None,
    on_bad_image: OnBadImage = "skip",
    val_fraction: float | None = None,
    root: str | None = None,
    split: str | None = None,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    window: int | None = None,
    stride: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a run on labelled data.

    Args:
        run: from `slideformer.open_run`; its model may be on any device, and stays as it is: a merged copy
            is evaluated.
        data: what the run was trained on, or other data of that form: its hold-out is used.
        device: as of `slideformer.predict`.
        batch_size: images a batch; default: the task's own.
        num_workers: as of `slideformer.predict`.
        precision: as of `slideformer.predict`.
        on_bad_image: ``skip`` leaves an unreadable image out and lists it; ``stop`` raises.
        val_fraction: of a folder without ``val/``, the part of each class that is held out, 1 for all;
            default: what the training of the classifier held out, so that no image it learned from counts.
            Of a source of timm, the part of its training split that the training held out: the same number.
        root: of a classifier, the folder of a source of timm, such as ``torch/fashion_mnist``.
        split: of a classifier, the name of the split of a source of timm; default: ``validation``, which is
            the test split of torchvision's.
        annotations: of a detector, COCO's file of the hold-out, where it is not in the data.
        images: of a detector, the folder of its images, where it is not in the data.
        window: of a segmenter, side in pixels of a window that slides; default: the whole image at once.
        stride: of a segmenter, pixels from one window to the next; default: two thirds of a window.
        progress: called after each batch with the number of images done and that of all.

    Returns:
        The figures: a table when printed; ``to_dict()`` gives plain values, ``save(folder)`` writes them.

    Raises:
        UserError: the data cannot be used or have other classes, an option is another task's or out of its
            range, the device is not here, or an output is not finite.

    Example:
        ::

            figures = slideformer.evaluate(run, data="DIR")
            print(figures)
    """
    own: dict[str, object] = {"val_fraction": val_fraction, "root": root, "split": split}
    own |= {"annotations": annotations, "images": images, "window": window, "stride": stride}
    check_task(run, own)
    check_range("`batch_size`", batch_size, 1)
    check_workers(num_workers)
    check_range("`val_fraction`", val_fraction, 0.001, 1)
    options = Options(
        batch_size=batch_size,
        num_workers=num_workers,
        on_bad_image=on_bad_image,
        val_fraction=val_fraction,
        root=root,
        split=split,
        annotations=annotations,
        images=images,
        sliding=windows(window, stride),
        progress=progress,
    )
    ready = placed(run, device=device, precision=precision, merge=True)
    return find_task(run.task).evaluate(ready, data, options)


def each_batch(
    batches: Iterable[Any],
    step: Callable[[Any, Sequence[str]], None],
    *,
    names: Sequence[str] = (),
    progress: Progress | None = None,
) -> tuple[int, tuple[str, ...]]:
    """Go over batches once, leaving out what cannot be read.

    Args:
        batches: each with ``images``, ``unreadable`` and ``check()``.
        step: takes a batch with a readable image, and the names of its readable images.
        names: of all images, readable or not, in order.
        progress: called after each batch with the number of images done and that of all.

    Returns:
        How many images were read, and the paths of those that were not.

    Raises:
        UserError: a batch must not be used.
    """
    count, unreadable = 0, list[str]()
    for batch in batches:
        bad = batch.check().unreadable
        first = count + len(unreadable)
        here = names[first : first + len(batch.images) + len(bad)]
        if len(batch.images):
            step(batch, [name for name in here if name not in bad])
        count += len(batch.images)
        unreadable += bad
        if progress is not None:
            progress(count + len(unreadable), len(names))
    return count, tuple(unreadable)


def confusion_of(labels: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Count by true class (row) and predicted class (column); targets without a class are left out.

    Args:
        labels: predicted class numbers, of any shape.
        targets: true class numbers, of the same shape; ``classes`` or more where there is none.
        classes: number of classes.
    """
    labelled = targets < classes
    pairs = targets[labelled].long() * classes + labels[labelled].long()
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)
