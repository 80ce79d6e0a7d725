# SPDX-License-Identifier: Apache-2.0
"""How good a trained classifier is on labelled images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from slideformer.errors import UserError
from slideformer.models import load_pretrained
from slideformer.models.finite import check_rows
from slideformer.tasks.classify.datasets import Batch, Images, hold_out_class_names
from slideformer.tasks.classify.loaders import eval_loader
from slideformer.tasks.pictures import OnBadImage


@dataclass(frozen=True)
class Evaluation:
    """Results on labelled images.

    Attributes:
        class_names: in the order of their numbers.
        confusion: ``(classes, classes)``, images by true class (row) and predicted class (column).
        top5_hits: images whose class is among the five likeliest.
        loss: mean cross entropy.
        unreadable: paths of images that were left out.
    """

    class_names: tuple[str, ...]
    confusion: Tensor
    top5_hits: int
    loss: float
    unreadable: tuple[str, ...]

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
        }


def check_class_names(model: Sequence[str], data: Sequence[str]) -> None:
    """Refuse data whose classes are not the model's.

    Raises:
        UserError: names differ.
    """
    if list(model) == list(data):
        return
    missing, foreign = sorted(set(model) - set(data)), sorted(set(data) - set(model))
    raise UserError(
        f"the data must have the model's {len(model)} classes, got without {', '.join(missing) or 'none'} "
        f"and with the foreign {', '.join(foreign) or 'none'}; give the data the model was trained for"
    )


@torch.inference_mode()
def evaluate(
    model: nn.Module, batches: Iterable[Batch], class_names: Sequence[str], images: Sequence[str] = ()
) -> Evaluation:
    """Classify every image once.

    Args:
        model: in evaluation mode; gives logits ``(B, classes)``.
        batches: labelled images on the model's device.
        class_names: in the order of the logits.
        images: names of all images, readable or not, in their order, for errors.

    Raises:
        UserError: there is no readable image, or an answer is not finite.
    """
    classes, done = len(class_names), 0
    confusion = torch.zeros(classes, classes, dtype=torch.long)
    hits, loss = 0, 0.0
    unreadable: list[str] = []
    for batch in batches:
        unreadable += batch.check().unreadable
        names = images[done : done + len(batch.images) + len(batch.unreadable)]
        done += len(batch.images) + len(batch.unreadable)
        if not len(batch.images):
            continue
        logits = model(batch.images).float()
        check_rows(model, logits, [name for name in names if name not in batch.unreadable])
        flat = batch.targets * classes + logits.argmax(1)
        confusion += torch.bincount(flat, minlength=classes**2).view(classes, classes)
        likeliest = logits.topk(min(5, classes), dim=1).indices
        hits += int((likeliest == batch.targets[:, None]).any(1).sum())
        loss += float(nn.functional.cross_entropy(logits, batch.targets, reduction="sum"))
    count = int(confusion.sum())
    if count == 0:
        raise UserError("there must be an image to evaluate, got none; check the folder")
    return Evaluation(tuple(class_names), confusion, hits, loss / count, tuple(unreadable))


def evaluate_folder(
    folder: str | Path,
    source: str,
    *,
    batch_size: int = 64,
    num_workers: int = 0,
    on_bad_image: OnBadImage = "skip",
) -> Evaluation:
    """Evaluate the model of a run's folder on the hold-out of a source.

    Args:
        folder: of a finished run.
        source: ``"digits"``, a folder with ``val/``, or a folder of class folders.
        batch_size: images a batch.
        num_workers: processes that read images.
        on_bad_image: ``skip`` leaves an unreadable image out and tells its path; ``stop`` stops.

    Raises:
        UserError: folder or source are not fit, or their classes differ.
    """
    model, info = load_pretrained(folder)
    names = hold_out_class_names(source)
    model_names = info.label_names if info.label_names else tuple(names)
    check_class_names(model_names, names)
    loader = eval_loader(
        source,
        names,
        info.preprocessing(),
        batch_size=batch_size,
        num_workers=num_workers,
        on_bad_image=on_bad_image,
    )
    reader = cast("Images", loader.dataset).reader
    return evaluate(model, loader, names, [reader.name(number) for number in range(len(reader))])
