# SPDX-License-Identifier: Apache-2.0
"""Two classifiers compared on labelled images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from slideformer.errors import UserError
from slideformer.models.finite import check_finite
from slideformer.runs import EvalTransform, Facts
from slideformer.tasks.classify.evaluate import check_class_names
from slideformer.tasks.classify.samples import eval_loader
from slideformer.tasks.classify.sources import open_hold_out


@dataclass(frozen=True)
class Comparison:
    """The agreement of two classifiers on the same images.

    Attributes:
        images: how many.
        same: to how many both give the same class.
        right: to how many the first gives the right one.
        other_right: to how many the second does.
    """

    images: int
    same: int
    right: int
    other_right: int

    @property
    def agreement(self) -> float:
        """Share of the images with the same class."""
        return self.same / self.images

    @property
    def top1(self) -> float:
        """Share that the first classifies rightly."""
        return self.right / self.images

    @property
    def other_top1(self) -> float:
        """Share that the second does."""
        return self.other_right / self.images


@torch.inference_mode()
def compare(
    model: Callable[[Tensor], Tensor],
    other: Callable[[Tensor], Tensor],
    source: str,
    facts: Facts,
    *,
    val_fraction: float | None = None,
    batch_size: int = 32,
) -> Comparison:
    """Classify the hold-out of a source by both.

    Args:
        model: images ``(B, 3, height, width)`` to logits ``(B, classes)``.
        other: the same.
        source: ``"digits"``, a folder with ``val/``, or a folder of class folders.
        facts: of both.
        val_fraction: the part of each class of a folder to compare on; None for all, or for ``val/``.
        batch_size: images at a time.

    Raises:
        UserError: the source cannot be used, its classes are others, no image is readable, or an answer is
            not finite.
    """
    opened = open_hold_out(source, val_fraction)
    names = list(opened.class_names)
    if facts.class_names:
        check_class_names(facts.class_names, names)
    assert facts.preprocessing is not None  # every classifier has it
    images = same = right = other_right = 0
    transform = EvalTransform(facts.preprocessing)
    loader = eval_loader(opened, transform, batch_size=batch_size, num_workers=0, on_bad_image="skip")
    for batch in loader:
        if not len(batch.check().images):
            continue
        answers = [classify(batch.images) for classify in (model, other)]
        check_finite(answers)
        first, second = (logits.argmax(1) for logits in answers)
        images += len(batch.images)
        same += int((first == second).sum())
        right += int((first == batch.targets).sum())
        other_right += int((second == batch.targets).sum())
    if not images:
        raise UserError("there must be an image to compare on, got none; check the folder")
    return Comparison(images, same, right, other_right)
