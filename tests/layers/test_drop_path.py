# SPDX-License-Identifier: Apache-2.0
"""Stochastic depth is timm's, and costs nothing where an image skips a branch."""

from __future__ import annotations

import pytest
import timm.layers
import torch
from torch import Tensor, nn

from slideformer.layers.drop_path import DropPath


class Residual(nn.Module):
    """A shortcut and a branch that remembers how many images it was given."""

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.drop_path = DropPath(drop_prob)
        self.given = list[int]()

    def branch(self, x: Tensor) -> Tensor:
        self.given.append(x.shape[0])
        return self.inner(x).tanh()

    def forward(self, shortcut: Tensor, x: Tensor) -> Tensor:
        return self.drop_path(shortcut, self.branch, x)


def gradients(output: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(output.square().sum(), inputs))


# Of 4 images: nearly all stay, some, none.
@pytest.mark.parametrize("drop_prob", [0.01, 0.5, 0.99, 1.0])
def test_it_is_timms_in_values_and_gradients(drop_prob: float) -> None:
    layer = Residual(drop_prob)
    shortcut, x = (torch.randn(4, 2, 5, 3, requires_grad=True) for _ in range(2))
    inputs = [shortcut, x, *layer.parameters()]
    torch.manual_seed(0)
    output = layer(shortcut, x)
    torch.manual_seed(0)
    expected = shortcut + timm.layers.drop_path(layer.branch(x), drop_prob, training=True)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(gradients(output, inputs), gradients(expected, inputs))


def test_a_branch_is_not_computed_for_images_that_skip_it() -> None:
    layer, x = Residual(0.5), torch.randn(16, 3)
    torch.manual_seed(0)
    stay = int((layer(x, x) != x).any(1).sum())
    assert layer.given == [stay]
    assert 0 < stay < 16


def test_in_evaluation_no_image_skips() -> None:
    layer, x = Residual(0.99).eval(), torch.randn(16, 3)
    torch.testing.assert_close(layer(x, x), x + layer.branch(x))


def test_the_sum_has_the_dtype_of_the_shortcut_under_autocast() -> None:
    layer, x = Residual(0.5), torch.randn(16, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x, x).dtype == torch.float32


def test_the_dtype_does_not_depend_on_who_skips() -> None:
    shortcut, x = torch.randn(2, 3, dtype=torch.bfloat16), torch.randn(2, 3)
    found = {Residual(drop_prob)(shortcut, x).dtype for drop_prob in (0.0, 0.5, 1.0) for _ in range(5)}
    assert found == {torch.float32}


@pytest.mark.parametrize("how", ["vmap", "compiled", "torch.fx"])
def test_other_modes_keep_the_expectation(how: str) -> None:
    layer, x = Residual(0.25), torch.randn(1, 3).expand(4000, 3)
    if how == "vmap":
        one = x[:, None]  # a batch of one image
        output = torch.func.vmap(layer, randomness="different")(one, one)[:, 0]
    elif how == "compiled":
        output = torch.compile(layer, backend="eager", fullgraph=True)(x, x)
    else:
        output = torch.fx.symbolic_trace(layer)(x, x)
    skip = (output == x).all(1)
    assert 0.2 < float(skip.float().mean()) < 0.3
    torch.testing.assert_close(output[~skip], (x + layer.branch(x) / 0.75)[~skip])
