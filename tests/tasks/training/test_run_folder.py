# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint restored is looked at before an update uses it."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn
from torch.optim import Optimizer

from slideformer.errors import UserError
from slideformer.tasks.training.run_folder import check_optimisers

FILE = Path("last.ckpt")


def make(name: str) -> Optimizer:
    """An optimiser after its first update."""
    weight = nn.Parameter(torch.ones(2, 2))
    optimiser = create_optimizer_v2([weight], opt=name, lr=1e-3, weight_decay=0.05)
    weight.grad = torch.ones(2, 2)
    optimiser.step()
    return optimiser


def test_every_optimiser_of_timm_goes_on_from_its_own_state() -> None:
    restored = []
    for name in list_optimizers(exclude_filters=["kron*"]):  # which is compiled at its first update
        try:
            with warnings.catch_warnings(action="ignore"):
                state = make(name).state_dict()
                optimiser = make(name)
        except (AssertionError, ImportError, IndexError, RuntimeError):  # needs a device or other arguments
            continue
        optimiser.load_state_dict(state)
        check_optimisers(FILE, [optimiser])
        restored.append(name)
    assert {"adamw", "sgd", "lion", "lamb", "muon"} <= set(restored)


@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_an_option_that_is_missing_or_of_another_kind_is_refused(name: str) -> None:
    optimiser = make(name)
    del optimiser.param_groups[0]["weight_decay"]
    with pytest.raises(
        UserError, match=r"last.ckpt must hold an optimiser's state, but not its weight_decay"
    ):
        check_optimisers(FILE, [optimiser])
    optimiser.param_groups[0]["weight_decay"] = "text"
    with pytest.raises(UserError, match="but not its weight_decay"):
        check_optimisers(FILE, [optimiser])


def test_moments_may_be_several_tensors() -> None:
    optimiser = make("adamw")
    optimiser.state[optimiser.param_groups[0]["params"][0]]["factors"] = [torch.ones(2), (torch.ones(1), 1)]
    check_optimisers(FILE, [optimiser])


@pytest.mark.parametrize("moment", ["text", ["text"], {}])
def test_a_moment_that_is_not_made_of_numbers_is_refused(moment: object) -> None:
    optimiser = make("adamw")
    optimiser.state[optimiser.param_groups[0]["params"][0]]["exp_avg"] = moment
    with pytest.raises(UserError, match="but not its moments"):
        check_optimisers(FILE, [optimiser])
