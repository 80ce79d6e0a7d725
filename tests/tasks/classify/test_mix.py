# SPDX-License-Identifier: Apache-2.0
"""Mixed labels, and losses that fit them, are the numbers that the options say."""

from __future__ import annotations

import pytest
import torch
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import nn

from slideformer.tasks.classify.mix import Mix, build_loss


@pytest.mark.parametrize(
    ("mixed", "smoothing", "kind"),
    [
        (False, 0.0, nn.CrossEntropyLoss),
        (False, 0.1, LabelSmoothingCrossEntropy),
        (True, 0.1, SoftTargetCrossEntropy),
    ],
)
def test_the_loss_fits_the_labels(mixed: bool, smoothing: float, kind: type[nn.Module]) -> None:
    assert isinstance(build_loss(mixed, smoothing), kind)


def test_smoothing_moves_its_share_to_all_classes_alike() -> None:
    logits, target = torch.randn(4, 5), torch.tensor([0, 1, 2, 3])
    soft = torch.full((4, 5), 0.1 / 5)
    soft[range(4), target] += 0.9
    by_hand = -(soft * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(build_loss(False, 0.1)(logits, target), by_hand)


def test_nothing_is_mixed_unless_asked() -> None:
    assert Mix().build(10, 0.1) is None


def test_mixed_labels_sum_to_one() -> None:
    mixer = Mix(mixup=0.8, cutmix=1.0).build(3, 0.1)
    assert mixer is not None
    _, targets = mixer(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
