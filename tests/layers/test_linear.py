# SPDX-License-Identifier: Apache-2.0
"""Linear maps in the form of a CPU against ``nn.Linear``, and pieces against the whole."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from slideformer.layers import DepthwiseMlp, Mlp
from slideformer.layers.linear import PIECE_BYTES, Linear, gelu_of_linear, in_pieces


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 64, 64, 6), (2, 3, 5, 6), (5000, 6), (0, 64, 64, 6)], ids=str)
def test_every_shape_goes_through_as_through_a_linear_layer(shape: tuple[int, ...], bias: bool) -> None:
    layer, x = Linear(6, 4, bias=bias), torch.randn(shape)
    with torch.no_grad():
        out = layer(x)
    torch.testing.assert_close(out, F.linear(x, layer.weight, layer.bias))
    assert out.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_view_of_a_map_goes_through_too(dtype: torch.dtype) -> None:
    layer, x = Linear(6, 4).to(dtype), torch.randn(2, 6, 64, 70, dtype=dtype).permute(0, 2, 3, 1)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


def operators(layer: nn.Module, x: Tensor) -> set[str]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        layer(x)
    return {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("layer", [Linear(6, 4), Mlp(6, 24)], ids=lambda layer: type(layer).__name__)
def test_bias_and_gelu_are_part_of_the_product_only_where_nobody_wants_gradients(layer: nn.Module) -> None:
    x, slow = torch.randn(2, 64, 65, 6), {"aten::addmm", "aten::gelu"}
    assert slow & operators(layer, x)
    with torch.no_grad():
        assert not slow & operators(layer, x)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_gelu_in_the_product_is_that_of_pytorch(scale: float) -> None:
    layer, x = Linear(6, 24), scale * torch.randn(500, 6)
    with torch.no_grad():
        torch.testing.assert_close(gelu_of_linear(x, layer), F.gelu(layer(x)), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("hooked", [False, True], ids=["replaced", "watched"])
def test_a_layer_that_is_replaced_or_watched_is_called(hooked: bool) -> None:
    mlp, x, seen = Mlp(6, 24), torch.randn(500, 6), list[torch.Size]()
    if not hooked:
        mlp.fc1 = nn.Linear(6, 24)
    mlp.fc1.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), mlp.fc2(F.gelu(mlp.fc1(x))))
    assert seen == [(500, 24)] * 2


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
@pytest.mark.parametrize("work", ["autocast", "vmap", "forward mode", "counted"])
def test_other_modes_of_pytorch_take_it(work: str) -> None:
    layer, x = Linear(6, 4), torch.randn(500, 6)
    expected = F.linear(x, layer.weight, layer.bias).detach()
    with torch.no_grad():
        if work == "autocast":
            with torch.autocast("cpu", torch.bfloat16):
                assert layer(x).dtype == torch.bfloat16
        elif work == "vmap":
            torch.testing.assert_close(torch.func.vmap(layer)(x), expected)
        elif work == "forward mode":
            with forward_ad.dual_level():
                tangent = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, x))).tangent
            torch.testing.assert_close(tangent, F.linear(x, layer.weight).detach())
        else:
            with FlopCounterMode(display=False) as counter:
                layer(x)
            assert counter.get_total_flops() == 2 * 500 * 6 * 4


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
