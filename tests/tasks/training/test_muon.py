# SPDX-License-Identifier: Apache-2.0
"""Muon in float32 is timm's, but for the rounding of bfloat16."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from timm.optim.muon import Muon
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from slideformer.tasks.training.muon import Float32Muon
from slideformer.tasks.training.optimise import Optimise, build_optimiser

OPTIONS = Optimise(name="nmuon", lr=0.01)


class Products(TorchDispatchMode):
    """Notes the dtypes of matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "addmm" in str(func):
            self.dtypes.add(args[1].dtype)
        return func(*args, **(kwargs or {}))


def stepped(model: nn.Module, *, cpu: bool) -> tuple[nn.Module, Any, set[torch.dtype]]:
    """A copy of a model after one update; its optimiser, and the dtypes of that update's products."""
    model = deepcopy(model)
    optimiser = build_optimiser(model, OPTIONS, 8, cpu=cpu)
    numbers = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=numbers)
    with Products() as products:
        optimiser.step()
    return model, optimiser, products.dtypes


@pytest.fixture
def model() -> nn.Module:
    """Two layers, of a wide and a tall matrix."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 40), nn.Linear(40, 6))


def orthogonal(update: Tensor) -> float:
    """How far the singular values of an update are apart, relative to the largest."""
    values = torch.linalg.svdvals(update.detach())
    return float(values[-1] / values[0])


def test_an_update_is_timms_within_the_rounding_of_bfloat16(model: nn.Module) -> None:
    (ours, optimiser, in_float), (theirs, _, in_half) = (stepped(model, cpu=cpu) for cpu in (True, False))
    assert type(optimiser) is Float32Muon
    assert (in_float, in_half) == ({torch.float32}, {torch.bfloat16})
    for name, before in model.named_parameters():
        a, b = (dict(x.named_parameters())[name].detach() - before.detach() for x in (ours, theirs))
        assert float((a - b).norm() / b.norm()) < 0.03
    assert orthogonal(ours[0].weight - model[0].weight) > 0.6  # type: ignore[index, operator]


def test_states_of_both_load_into_each_other(model: nn.Module) -> None:
    (_, ours, _), (_, theirs, _) = (stepped(model, cpu=cpu) for cpu in (True, False))
    assert type(theirs) is Muon
    assert ours.defaults == theirs.defaults
    for one, other in ((ours, theirs), (theirs, ours)):
        state = other.state_dict()
        one.load_state_dict(state)
        assert one.state_dict()["param_groups"] == state["param_groups"]


def test_the_closure_computes_in_its_own_precision(model: nn.Module) -> None:
    optimiser: Any = build_optimiser(model, OPTIONS, 8, cpu=True)
    seen: list[torch.dtype] = []

    def closure() -> Tensor:
        x = torch.ones(8, 12)
        seen.append(x.to(dtype=torch.bfloat16).dtype)
        loss = model(x).sum()
        loss.backward()
        return loss

    assert optimiser.step(closure).requires_grad
    assert seen == [torch.bfloat16]


def test_other_optimisers_stay_as_they_are(model: nn.Module) -> None:
    assert type(build_optimiser(model, Optimise(), 8, cpu=True)) is torch.optim.AdamW
