# SPDX-License-Identifier: Apache-2.0
"""Rates, decay and losses are the numbers that the options say."""

from __future__ import annotations

import itertools
import math

import pytest
import timm
import torch
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import nn

from slideformer.tasks.classify.optimise import Mix, Optimise, build_loss, build_optimiser, build_schedule

PAPER = Optimise(lr=5e-4, base_batch=512, warmup_epochs=20, warmup_lr=5e-7, min_lr=5e-6)


def rates(options: Optimise, *, batch: int, epochs: int, updates: int) -> list[float]:
    optimiser = build_optimiser(nn.Linear(2, 2), options, batch)
    schedule = build_schedule(optimiser, options, batch, epochs, updates)
    seen = []
    for update in range(updates):
        seen.append(optimiser.param_groups[0]["lr"])
        schedule.step_update(update + 1)
    return seen


def test_the_papers_schedule_has_its_numbers() -> None:
    seen = rates(PAPER, batch=1024, epochs=300, updates=3000)
    assert seen[0] == pytest.approx(2 * 5e-7)
    assert seen[100] == pytest.approx((2 * 5e-7 + 1e-3) / 2, rel=1e-6)
    assert max(seen) == pytest.approx(1e-3, rel=0.02)
    # The cosine counts from the start of training, warm-up included, as the authors' does.
    middle = 1500
    assert seen[middle] == pytest.approx(1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * middle / 3000)) / 2)
    assert seen[-1] == pytest.approx(1e-5, rel=0.01)
    assert all(a >= b for a, b in itertools.pairwise(seen[200:]))


def test_rates_without_a_base_batch_stay_as_they_are() -> None:
    assert max(rates(Optimise(lr=3e-3, warmup_epochs=0), batch=9999, epochs=4, updates=40)) == 3e-3


def test_the_last_epochs_cool_down_at_the_lowest_rate() -> None:
    options = Optimise(lr=1e-3, warmup_epochs=1, cooldown_epochs=3, min_lr=1e-6)
    seen = rates(options, batch=8, epochs=10, updates=100)
    assert seen[70:] == pytest.approx([1e-6] * 30)
    assert seen[65] > 2e-6


def test_biases_norms_and_position_biases_do_not_decay() -> None:
    model = timm.create_model("slide_swin_nano", num_classes=3)
    optimiser = build_optimiser(model, PAPER, 512)
    names = {parameter: name for name, parameter in model.named_parameters()}
    decays = {names[p]: group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert decays.keys() == set(names.values())
    free = {name for name, decay in decays.items() if decay == 0}
    assert free == {name for name in names.values() if "bias" in name or "norm" in name}
    assert any(name.endswith("attention.key_bias") for name in free)
    assert {decays[name] for name in decays.keys() - free} == {0.05}


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
