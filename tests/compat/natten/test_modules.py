# SPDX-License-Identifier: Apache-2.0
"""NATTEN's layers: their arguments, parameters and numbers."""

from __future__ import annotations

import importlib.util

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.compat import natten as compat

LAYERS = (compat.NeighborhoodAttention1D, compat.NeighborhoodAttention2D, compat.NeighborhoodAttention3D)
SIZES = ((11,), (7, 9), (4, 6, 5))


def state(axes: int) -> dict[str, Tensor]:
    """A state dict by NATTEN's names, with a bias."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "rpb": (2, *(5,) * axes),
        "qkv.weight": (24, 8),
        "qkv.bias": (24,),
        "proj.weight": (8, 8),
        "proj.bias": (8,),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_state_dict_of_natten_gives_attention_between_its_projections(axes: int) -> None:
    given = state(axes)
    layer = LAYERS[axes - 1](8, 2, 3, rel_pos_bias=True)
    layer.load_state_dict(given)
    x = torch.randn(2, *SIZES[axes - 1], 8)
    qkv = F.linear(x, given["qkv.weight"], given["qkv.bias"]).unflatten(-1, (3, 2, 4)).movedim(-3, 0)
    attend = getattr(compat, f"na{axes}d")
    wanted = F.linear(attend(*qkv, 3, rpb=given["rpb"]).flatten(-2), given["proj.weight"], given["proj.bias"])
    torch.testing.assert_close(layer(x), wanted)


@pytest.mark.filterwarnings("ignore")  # of PyTorch, about what NATTEN calls
@pytest.mark.skipif(importlib.util.find_spec("natten") is None, reason="NATTEN is not importable")
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_layer_gives_the_numbers_of_the_natten_that_is_here(axes: int) -> None:
    import natten

    theirs = getattr(natten, f"NeighborhoodAttention{axes}D")(16, 2, 3, dilation=(1, 2, 1)[-axes:])
    ours = LAYERS[axes - 1](16, 2, 3, dilation=(1, 2, 1)[-axes:])
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, *SIZES[axes - 1], 16)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=0)


def test_arguments_are_taken_by_their_names_in_every_release() -> None:
    old = compat.NeighborhoodAttention2D(dim=8, num_heads=2, kernel_size=3, bias=True, attn_drop=0.1)
    new = compat.NeighborhoodAttention2D(embed_dim=8, num_heads=2, kernel_size=3, rel_pos_bias=True)
    assert {name: x.shape for name, x in old.state_dict().items()} == {
        name: x.shape for name, x in new.state_dict().items()
    }
    assert "rpb" not in compat.NeighborhoodAttention2D(8, 2, 3).state_dict()


def test_attention_dropout_acts_in_training_alone() -> None:
    layer = compat.NeighborhoodAttention1D(8, 2, 3, attn_drop=0.5)
    x = torch.randn(1, 9, 8)
    assert not torch.equal(layer(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


def test_the_scale_replaces_the_usual_one() -> None:
    torch.manual_seed(0)
    layer = compat.NeighborhoodAttention1D(8, 2, 3, qk_scale=1.0)
    usual = compat.NeighborhoodAttention1D(8, 2, 3)
    usual.load_state_dict(layer.state_dict())
    with torch.no_grad():
        usual.qkv.weight[:8] *= 2  # of the queries: the square root of 4 channels
        usual.qkv.bias[:8] *= 2
    x = torch.randn(1, 9, 8)
    torch.testing.assert_close(layer(x), usual(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: compat.NeighborhoodAttention2D(8, 3, 3), "dim must be a multiple of num_heads"),
        (lambda: compat.NeighborhoodAttention2D(8, 2, 4), "kernel_size must be odd, got 4; use 5"),
        (lambda: compat.NeighborhoodAttention2D(8, 2, 3, stride=2), "stride must be 1, got 2"),
        (lambda: compat.NeighborhoodAttention1D(8, 2, 3, stride=[1, 1]), "stride must have .*, got 2: "),
        (lambda: compat.NeighborhoodAttention2D(8, 2, (3, 3, 3)), "kernel_size must have one entry for all"),
        (
            lambda: compat.NeighborhoodAttention3D(8, 2, 3)(torch.zeros(1, 5, 5, 8)),
            r"x must be a map \(B, Z, H, W, C\) with C = 8, got \(1, 5, 5, 8\); put channels last, and use",
        ),
    ],
)
def test_a_layer_that_cannot_be_says_why(build: type[nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_a_layer_takes_tensors_alone() -> None:
    with pytest.raises(TypeError, match="x must be a Tensor, got list"):
        compat.NeighborhoodAttention1D(8, 2, 3)([[[0.0] * 8]])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"embed_dim": 16, "dim": 8}, "embed_dim"),
        ({"dim": 8, "bias": True, "rel_pos_bias": False}, "rel_pos_bias"),
    ],
)
def test_two_values_of_one_argument_are_an_error(arguments: dict[str, int], name: str) -> None:
    with pytest.raises(TypeError, match=f"got multiple values for argument '{name}', .*; give it once"):
        compat.NeighborhoodAttention2D(num_heads=2, kernel_size=3, **arguments)
