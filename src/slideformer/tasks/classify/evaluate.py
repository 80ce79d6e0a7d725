# SPDX-License-Identifier: Apache-2.0
"""Evaluation of a classifier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slideformer.errors import UserError, printable
from slideformer.models.finite import check_rows
from slideformer.runs import PixelTransform, Run
from slideformer.tasks.classify.samples import eval_loader
from slideformer.tasks.classify.sources import FOLDER, Source, find_kind, open_hold_out
from slideformer.tasks.evaluate import Evaluation, Options, Progress, confusion_of, each_batch
from slideformer.tasks.training.batches import Batch, Images
from slideformer.viz import confusion_matrix

BATCH = 64


@dataclass(frozen=True)
class ClassificationEvaluation(Evaluation):
    """Results on labelled images.

    Attributes:
        class_names: in the order of their numbers.
        confusion: ``(classes, classes)``, images by true class (row) and predicted class (column).
        top5_hits: images whose class is among the five likeliest.
        loss: mean cross entropy.
        unreadable: paths of images that were left out.
        val_fraction: the part of each class that the training held out, where the images are that part.
    """

    class_names: tuple[str, ...]
    confusion: Tensor
    top5_hits: int
    loss: float
    unreadable: tuple[str, ...]
    val_fraction: float | None = None

    @property
    def images(self) -> int:
        """How many images were classified."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """Share of images whose likeliest class is right."""
        return float(self.confusion.trace()) / self.images

    @property
    def top5(self) -> float:
        """Share of images whose class is among the five likeliest."""
        return self.top5_hits / self.images

    def per_class(self) -> list[dict[str, Any]]:
        """Name, number of images, recall and precision of each class; None where nothing can be said."""
        hits = self.confusion.diag().tolist()
        true, predicted = self.confusion.sum(1).tolist(), self.confusion.sum(0).tolist()
        return [
            {
                "name": name,
                "images": true[i],
                "recall": hits[i] / true[i] if true[i] else None,
                "precision": hits[i] / predicted[i] if predicted[i] else None,
            }
            for i, name in enumerate(self.class_names)
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            "images": self.images,
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "classes": self.per_class(),
            "confusion": self.confusion.tolist(),
            "unreadable": list(self.unreadable),
            "val_fraction": self.val_fraction,
        }

    def table(self) -> str:
        """A line a class, then accuracy and loss."""
        rows = [{**row, "name": printable(row["name"])} for row in self.per_class()]
        width = max(5, *(len(row["name"]) for row in rows))
        lines = [f"{'class':<{width}}{'images':>9}{'recall %':>11}{'precision %':>13}"]
        for row in rows:
            recall, precision = (
                "-" if row[key] is None else f"{100 * row[key]:.2f}" for key in ("recall", "precision")
            )
            lines.append(f"{row['name']:<{width}}{row['images']:>9}{recall:>11}{precision:>13}")
        left_out = f", {len(self.unreadable)} left out" if self.unreadable else ""
        lines.append(
            f"top-1 {100 * self.top1:.2f} %   top-5 {100 * self.top5:.2f} %   loss {self.loss:.4f}   "
            f"({self.images} images{left_out})"
        )
        if self.val_fraction is not None:
            lines.append(
                f"on the part of each class that the training held out, {self.val_fraction:g}; "
                "a val_fraction of 1 takes all images"
            )
        return "\n".join(lines)

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``evaluation.json`` and ``confusion.png``."""
        files = super().save(folder)
        return [*files, confusion_matrix(self.confusion, self.class_names, Path(folder) / "confusion.png")]


def check_class_names(model: Sequence[str], data: Sequence[str]) -> None:
    """Check that data have the model's classes."""
    if list(model) == list(data):
        return
    missing, foreign = sorted(set(model) - set(data)), sorted(set(data) - set(model))
    raise UserError(
        f"the data must have the model's {len(model)} classes, got without {', '.join(missing) or 'none'} "
        f"and with the foreign {', '.join(foreign) or 'none'}; give the data the model was trained for"
    )


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    class_names: Sequence[str],
    *,
    name: str = "the model",
    images: Sequence[str] = (),
    progress: Progress | None = None,
) -> ClassificationEvaluation:
    """Classify every image once.

    Args:
        model: in evaluation mode; gives logits ``(B, classes)`` of the images of a batch.
        batches: labelled images.
        class_names: in the order of the logits.
        name: what to call the model in errors.
        images: names of all images, readable or not, in order, for errors.
        progress: called after each batch with the number of images done and that of all.

    Raises:
        UserError: there is no readable image, or an output is not finite.
    """
    classes = len(class_names)
    confusion = torch.zeros(classes, classes, dtype=torch.long)
    top5_hits, loss = 0, 0.0

    def step(batch: Batch, names: Sequence[str]) -> None:
        nonlocal top5_hits, loss, confusion
        logits = model(batch.images).float().cpu()
        check_rows(name, logits, names)
        confusion += confusion_of(logits.argmax(1), batch.targets, classes)
        likeliest = logits.topk(min(5, classes), dim=1).indices
        top5_hits += int((likeliest == batch.targets[:, None]).any(1).sum())
        loss += float(nn.functional.cross_entropy(logits, batch.targets, reduction="sum"))

    count, unreadable = each_batch(batches, step, names=images, progress=progress)
    if count == 0:
        raise UserError("there must be an image to evaluate, got none; check the folder")
    return ClassificationEvaluation(tuple(class_names), confusion, top5_hits, loss / count, unreadable)


def evaluate_run(run: Run, data: str | Path, options: Options) -> ClassificationEvaluation:
    """Evaluate a classification run on the hold-out of a source."""
    source, part = hold_out_of(run, str(data), options)
    names = list(source.class_names)
    check_class_names(run.class_names or names, names)
    assert run.preprocessing is not None  # every classifier has it
    loader = eval_loader(
        source,
        PixelTransform(run.preprocessing),
        batch_size=BATCH if options.batch_size is None else options.batch_size,
        num_workers=options.num_workers,
        on_bad_image=options.on_bad_image,
    )
    if not isinstance(loader.dataset, Images):
        raise UserError(f"a source must give its images by number to be evaluated on, got the stream {data}")
    reader = loader.dataset.reader
    images = [reader.name(number) for number in range(len(reader))]
    found = evaluate(run.model, loader, names, name=run.name, images=images, progress=options.progress)
    return replace(found, val_fraction=part)


def hold_out_of(run: Run, data: str, options: Options) -> tuple[Source, float | None]:
    """The hold-out of a source, and of a folder without ``val/`` the part of each class that it is.

    Args:
        run: that is evaluated.
        data: the text that names the source.
        options: with the part that was asked for, 1 for all; None for what the training of the run held out:
            no image that was trained on is counted.
    """
    fraction = options.val_fraction
    open_part = partial(
        open_hold_out,
        data,
        root=options.root,
        split=options.split,
        num_classes=run.blueprint.num_classes,
    )
    if fraction is not None:
        return open_part(None if fraction == 1 else fraction), None
    part = held_out_part(data, run.val_fraction)
    try:
        return open_part(part), part
    except UserError as error:
        hint = "" if part is None else f"; or set `val_fraction` 1 to evaluate on all of it, not on {part:g}"
        raise UserError(f"{error}{hint}") from error


def held_out_part(data: str, val_fraction: float | None) -> float | None:
    """The part of each class of a source to measure on; None where the source has a hold-out of its own.

    Args:
        data: the text that names the source.
        val_fraction: that the training held out.
    """
    return val_fraction if find_kind(data) is FOLDER and not (Path(data) / "val").is_dir() else None
