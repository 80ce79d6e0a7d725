# SPDX-License-Identifier: Apache-2.0
"""Spatial-reduction attention: timm's numbers where timm takes the map, a value where it does not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from timm.models.pvt_v2 import Attention

from slideformer.layers import SpatialReductionAttention

NAMES = {"query": "q", "key_value": "kv", "reduce": "sr", "norm": "norm", "proj": "proj"}


def like_timm(theirs: Attention, reduction: int) -> SpatialReductionAttention:
    """Ours with timm's weights."""
    ours = SpatialReductionAttention(theirs.dim, theirs.num_heads, reduction).to(theirs.q.weight)
    for our_name, their_name in NAMES.items():
        if hasattr(ours, our_name):
            getattr(ours, our_name).load_state_dict(getattr(theirs, their_name).state_dict())
    return ours


@pytest.mark.parametrize("size", [(8, 8), (4, 4), (9, 13), (5, 16)], ids=str)
@pytest.mark.parametrize("reduction", [1, 2, 4])
def test_output_and_gradients_are_timms(reduction: int, size: tuple[int, int]) -> None:
    theirs = Attention(12, num_heads=3, sr_ratio=reduction).double()
    ours = like_timm(theirs, reduction)
    x = torch.randn(2, *size, 12, dtype=torch.float64, requires_grad=True)
    expected = theirs(x.flatten(1, 2), list(size)).unflatten(1, size)
    torch.testing.assert_close(ours(x), expected)
    (gradient,) = torch.autograd.grad(ours(x).square().sum(), x)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.square().sum(), x)[0])


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (9, 2)], ids=str)
def test_a_map_smaller_than_the_reduction_has_keys_of_a_padded_one(size: tuple[int, int]) -> None:
    layer, x = SpatialReductionAttention(8, 2, reduction=4), torch.randn(2, *size, 8)
    rows, columns = (max(4 - side, 0) for side in size)
    padded = F.pad(x, (0, 0, 0, columns, 0, rows))
    torch.testing.assert_close(layer(x), layer(padded)[:, : size[0], : size[1]])


def test_dropout_of_weights_is_for_training_only() -> None:
    layer, x = SpatialReductionAttention(8, 2, attn_drop=0.5), torch.randn(1, 4, 4, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="dim must be a multiple of num_heads, got dim=8 and num_heads=3"):
        SpatialReductionAttention(8, 3)
    with pytest.raises(ValueError, match="reduction must be at least 1, got 0"):
        SpatialReductionAttention(8, 2, reduction=0)
    with pytest.raises(ValueError, match=r"a map \(B, H, W, C\) with C = 8, got \(1, 4, 8\)"):
        SpatialReductionAttention(8, 2)(torch.zeros(1, 4, 8))
