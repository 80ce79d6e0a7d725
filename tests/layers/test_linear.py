# SPDX-License-Identifier: Apache-2.0
"""Linear maps in the form of a CPU against ``nn.Linear``, and pieces against the whole."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slideformer.layers import DepthwiseMlp, Mlp
from slideformer.layers.linear import MANY_POSITIONS, PIECE_BYTES, Linear, in_pieces


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 64, 64, 6), (2, 3, 5, 6), (5000, 6), (0, 64, 64, 6)], ids=str)
def test_every_shape_goes_through_as_through_a_linear_layer(shape: tuple[int, ...], bias: bool) -> None:
    layer, x = Linear(6, 4, bias=bias), torch.randn(shape)
    with torch.no_grad():
        out = layer(x)
    torch.testing.assert_close(out, F.linear(x, layer.weight, layer.bias))
    assert out.is_contiguous()


def test_a_view_of_a_map_goes_through_too() -> None:
    layer, x = Linear(6, 4).double(), torch.randn(2, 6, 64, 70, dtype=torch.float64).permute(0, 2, 3, 1)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


def test_a_large_map_is_a_convolution_only_where_nobody_wants_gradients() -> None:
    layer, x = Linear(6, 4), torch.randn(1, MANY_POSITIONS, 1, 6)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        layer(x)
    assert "aten::conv2d" not in {event.key for event in profile.key_averages()}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile, torch.no_grad():
        layer(x)
    assert "aten::conv2d" in {event.key for event in profile.key_averages()}


def test_pieces_cover_everything_once_and_are_small() -> None:
    sizes = []

    def function(piece: Tensor) -> Tensor:
        sizes.append(len(piece))
        return 2 * piece

    x = torch.randn(1000, 2)
    with torch.no_grad():
        torch.testing.assert_close(in_pieces(function, x, PIECE_BYTES // 4 // 300), 2 * x)
    assert sizes == [300, 300, 300, 100]
    sizes.clear()
    in_pieces(function, x, PIECE_BYTES)  # gradients may be wanted
    assert sizes == [1000]


@pytest.mark.parametrize("layer", [Mlp(3, 64), DepthwiseMlp(3, 64)], ids=lambda layer: type(layer).__name__)
def test_a_perceptron_in_pieces_is_the_same(layer: Mlp | DepthwiseMlp) -> None:
    x = torch.randn(6, 128, 129, 3)
    assert x[..., 0].numel() * 64 * 4 > 2 * PIECE_BYTES
    whole = layer(x).detach()
    with torch.no_grad():
        torch.testing.assert_close(layer(x), whole)
