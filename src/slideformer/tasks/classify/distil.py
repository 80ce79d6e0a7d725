# SPDX-License-Identifier: Apache-2.0
"""Distillation: a student learns its teacher's logits and stage maps, by PyTorch's losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.errors import check_range


class Answers(NamedTuple):
    """Everything that a classifier says about images.

    Attributes:
        logits: ``(B, classes)``.
        maps: after each stage ``(B, C, H, W)``; empty where only logits are compared.
    """

    logits: Tensor
    maps: list[Tensor]


def answers(model: nn.Module, images: Tensor, *, maps: bool = True) -> Answers:
    """The answers of a model of timm's registry, in one pass.

    Args:
        model: any of timm's or ours.
        images: ``(B, 3, height, width)``, as the model wants them.
        maps: whether the stages' maps are among them; the model must have ``forward_intermediates``.
    """
    if not maps:
        return Answers(model(images), [])
    last, stages = cast("Any", model).forward_intermediates(images)
    return Answers(cast("Any", model).forward_head(last), stages)


@dataclass(frozen=True)
class Distil:
    """How closely a student follows its teacher.

    Attributes:
        logits: weight of the Kullback-Leibler divergence from the teacher's probabilities; 0 for none.
        maps: weight of the distance of the stages' maps, where student and teacher have the same: one minus
            the cosine of the angle between two vectors of a position, its mean over positions and stages; 0
            for none.
        temperature: what logits are divided by before; above 1, unlikely classes count for more.
    """

    logits: float = 1.0
    maps: float = 1.0
    temperature: float = 2.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("logits", "maps"):
            check_range(f"`distil.{name}`", getattr(self, name), 0)
        check_range("`distil.temperature`", self.temperature, 0.01, 1000)

    def loss(self, student: Answers, teacher: Answers) -> Tensor:
        """The weighted sum; 0 where the student answers as the teacher does.

        The divergence is multiplied by the temperature squared, so that its gradients are as large at any
        (Hinton et al., 2015, section 2).

        Args:
            student: with gradients.
            teacher: of the same images.
        """
        ours, theirs = (F.log_softmax(x.logits.float() / self.temperature, dim=1) for x in (student, teacher))
        loss = F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * self.temperature**2
        total = self.logits * loss
        if student.maps:
            pairs = zip(student.maps, teacher.maps, strict=True)
            angles = [1 - F.cosine_similarity(x.float(), y.float(), dim=1).mean() for x, y in pairs]
            total = total + self.maps * torch.stack(angles).mean()
        return total
