# SPDX-License-Identifier: Apache-2.0
"""Mixing of images and labels, and the loss that matches the labels; both timm's."""

from __future__ import annotations

from dataclasses import dataclass

from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import nn

from slideformer.errors import check_range


@dataclass(frozen=True)
class Mix:
    """Mixing of images and labels, in the words of timm's ``Mixup``.

    Attributes:
        mixup: strength of blending two images; 0 for none.
        cutmix: strength of pasting a piece of one into another; 0 for none.
        prob: probability that a batch is mixed.
        switch_prob: of a mixed batch, probability of cutmix where both are on.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    prob: float = 1.0
    switch_prob: float = 0.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("mixup", "cutmix"):
            check_range(f"`mix.{name}`", getattr(self, name), 0)
        for name in ("prob", "switch_prob"):
            check_range(f"`mix.{name}`", getattr(self, name), 0, 1)

    def build(self, num_classes: int, smoothing: float) -> Mixup | None:
        """Timm's mixer, or None where nothing is mixed."""
        if not self.mixup and not self.cutmix:
            return None
        return Mixup(
            mixup_alpha=self.mixup,
            cutmix_alpha=self.cutmix,
            prob=self.prob,
            switch_prob=self.switch_prob,
            label_smoothing=smoothing,
            num_classes=num_classes,
        )


def build_loss(mixed: bool, smoothing: float) -> nn.Module:
    """Cross entropy with soft targets where labels are mixed, smoothed or plain otherwise."""
    if mixed:
        return SoftTargetCrossEntropy()
    return LabelSmoothingCrossEntropy(smoothing) if smoothing else nn.CrossEntropyLoss()
