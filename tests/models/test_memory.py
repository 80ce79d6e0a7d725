# SPDX-License-Identifier: Apache-2.0
"""Memory of a training step, counted without computing."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from slideformer.models.memory import available_bytes, training_bytes


@pytest.mark.parametrize("name", ["slide_swin_nano", "test_vit", "test_resnet"])
def test_the_count_is_what_a_real_step_keeps(name: str) -> None:
    model = timm.create_model(name).train()
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(torch.randn(2, 3, 64, 64)).sum()
    own = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}
    activations = sum(kept[place].untyped_storage().nbytes() for place in kept.keys() - own)
    loss.backward()
    gradients = sum(x.grad.nbytes for x in model.parameters() if x.grad is not None)
    assert training_bytes(model, (2, 3, 64, 64)) == pytest.approx(activations + 3 * gradients, rel=0.02)


def test_counting_changes_neither_the_model_nor_random_numbers() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    training_bytes(model, (2, 3, 8, 8))
    assert torch.equal(torch.rand(3), expected)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_frozen_parameters_need_no_gradients_and_moments() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5).requires_grad_(False), nn.Linear(5, 2))
    # 4 rows of 5 inputs to the second layer, whose 12 numbers are trained.
    assert training_bytes(model, (4, 3, 2, 2)) == 4 * (4 * 5 + 3 * 12)


def test_recomputed_activations_are_not_kept() -> None:
    model = timm.create_model("slide_swin_nano").train()
    kept = training_bytes(model, (64, 3, 32, 32))
    model.set_grad_checkpointing(True)
    assert training_bytes(model, (64, 3, 32, 32)) < kept / 2


def test_the_memory_of_this_machine_is_known_or_infinite() -> None:
    assert available_bytes("cpu") > 2**20
    assert available_bytes("mps") == float("inf")
