# SPDX-License-Identifier: Apache-2.0
"""Rates and decay are the numbers that the options say."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import timm
from torch import nn

from slideformer.errors import UserError
from slideformer.tasks.training.optimise import Optimise, build_optimiser, build_schedule

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


@pytest.mark.parametrize(("name", "fused"), [("adamw", True), ("sgd", True), ("nmuon", None), ("lamb", None)])
def test_an_optimiser_is_fused_where_it_can_be(name: str, fused: bool | None) -> None:
    optimiser = build_optimiser(nn.Linear(2, 2), Optimise(name=name), 1, fused=True)
    assert optimiser.defaults.get("fused") is fused
    assert not build_optimiser(nn.Linear(2, 2), Optimise(name=name), 1).defaults.get("fused")


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


def test_the_multistep_schedule_lowers_the_rate_at_its_milestones() -> None:
    options = Optimise(lr=1e-3, schedule="multistep", milestones=(8, 11), warmup_steps=0)
    seen = rates(options, batch=16, epochs=12, updates=120)
    assert seen[:78] == pytest.approx([1e-3] * 78)
    assert seen[81:108] == pytest.approx([1e-4] * 27)
    assert seen[111:] == pytest.approx([1e-5] * 9)


def test_the_poly_schedule_has_the_exponent_that_is_given() -> None:
    options = Optimise(lr=1e-3, schedule="poly", decay=0.9, warmup_steps=0, min_lr=0.0)
    seen = rates(options, batch=16, epochs=10, updates=100)
    assert seen[50] == pytest.approx(1e-3 * 0.5**0.9)
    assert seen[90] == pytest.approx(1e-3 * 0.1**0.9)


def test_a_warm_up_may_be_given_in_updates() -> None:
    options = Optimise(lr=1e-3, schedule="poly", warmup_steps=25, warmup_lr=0.0, min_lr=0.0)
    seen = rates(options, batch=16, epochs=10, updates=100)
    assert seen[5] == pytest.approx(2e-4)
    # The polynomial counts from the start of training, warm-up included.
    assert seen[24:26] == pytest.approx([0.96e-3, 0.75e-3])


def test_layer_decay_lowers_the_rates_of_the_first_layers() -> None:
    model = timm.create_model("slide_swin_nano", num_classes=3)
    optimiser = build_optimiser(model, Optimise(layer_decay=0.5), 1)
    scales = {p: group["lr_scale"] for group in optimiser.param_groups for p in group["params"]}
    assert scales[model.head.fc.weight] == 1
    assert scales[model.patch_embed.proj.weight] < scales[model.stages[-1].blocks[-1].mlp.fc1.weight] < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "multistep"}, "`optimise.milestones` must be given with the schedule multistep"),
        (
            {"milestones": (3,)},
            "`optimise.milestones` must be given with the schedule multistep, and with no other",
        ),
        ({"warmup_steps": 5, "warmup_epochs": 1}, "in epochs or in steps, got both"),
        ({"layer_decay": 1.5}, "`optimise.layer_decay` must be from"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_options_that_do_not_fit_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Optimise(**options)
