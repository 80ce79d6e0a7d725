# SPDX-License-Identifier: Apache-2.0
"""Pooling attention: it is MViTv2's, on maps of any size."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
import torch
from timm.models.mvitv2 import MultiScaleAttention, checkpoint_filter_fn
from torch import Tensor, nn
from torch.export import Dim

from slideformer.layers.pooling_attention import PoolingAttention, relative_positions
from tests.tiers import fast

# What timm calls it, and what we do.
NAMES = {
    "pool_q.": "query_pool.conv.",
    "pool_k.": "key_pool.conv.",
    "pool_v.": "value_pool.conv.",
    "norm_q.": "query_pool.norm.",
    "norm_k.": "key_pool.norm.",
    "norm_v.": "value_pool.norm.",
    "rel_pos_h": "relative_position_rows",
    "rel_pos_w": "relative_position_columns",
}
# Strides of queries and of keys: those of MViTv2's blocks, in order.
STRIDES = pytest.mark.parametrize("strides", [(1, 4), (2, 2), (1, 2), (2, 1), (1, 1)], ids=str)


def by_our_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for theirs, ours in NAMES.items():
        state = {name.replace(theirs, ours): tensor for name, tensor in state.items()}
    return state


def timm_attention(strides: tuple[int, int], size: tuple[int, int]) -> MultiScaleAttention:
    """Timm's layer, made for maps of a size, which need not be square."""
    query, key = ((stride, stride) for stride in strides)
    square, kernel = (8, 8), (3, 3)
    layer = MultiScaleAttention(
        8, 16, square, 2, True, "conv", kernel, kernel, query, key, has_cls_token=False
    )
    # It makes tables for square maps alone, but its arithmetic takes whatever stands there.
    for name, side in zip(("rel_pos_h", "rel_pos_w"), size, strict=True):
        setattr(layer, name, nn.Parameter(torch.randn(2 * -(-side // min(strides)) - 1, 8)))
    for norm in (layer.norm_q, layer.norm_k, layer.norm_v):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return layer


def ours(strides: tuple[int, int], size: int | tuple[int, int]) -> PoolingAttention:
    return PoolingAttention(8, 2, out_dim=16, query_stride=strides[0], key_stride=strides[1], map_size=size)


@STRIDES
@pytest.mark.parametrize("size", [(16, 16), (8, 20), (13, 5), (1, 3)], ids=str)
def test_it_agrees_with_timm(size: tuple[int, int], strides: tuple[int, int]) -> None:
    theirs, layer = timm_attention(strides, size), ours(strides, size)
    layer.load_state_dict(by_our_names(theirs.state_dict()))
    x = torch.randn(2, *size, 8)
    expected, new_size = theirs(x.flatten(1, 2), size)
    torch.testing.assert_close(layer(x), expected.unflatten(1, new_size), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("queries", [1, 2, 7, 14, 25])
@pytest.mark.parametrize("keys", [1, 3, 7, 14, 28])
def test_distances_are_counted_on_the_finer_map(queries: int, keys: int) -> None:
    length = 2 * max(queries, keys) - 1
    index = relative_positions(torch.arange(float(length))[:, None], queries, keys)[..., 0]
    coarse_query, coarse_key = max(Fraction(keys, queries), 1), max(Fraction(queries, keys), 1)
    expected = [
        [floor(i * coarse_query + (keys - 1 - j) * coarse_key) for j in range(keys)] for i in range(queries)
    ]
    assert index.tolist() == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_places_do_not_depend_on_the_default_dtype(dtype: torch.dtype) -> None:
    table = torch.arange(111.0)[:, None]
    expected = relative_positions(table, 14, 41)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        assert torch.equal(relative_positions(table, 14, 41), expected)
    finally:
        torch.set_default_dtype(before)


@STRIDES
def test_for_another_size_the_tables_are_interpolated_as_timm_does(strides: tuple[int, int]) -> None:
    layer, other = ours(strides, 16), timm_attention(strides, (24, 24))
    model = nn.Module()
    model.attn = other
    theirs = {f"attn.{theirs}": layer.state_dict()[ours] for theirs, ours in NAMES.items() if "rel" in theirs}
    native = {"stages.0.blocks.0.norm1.weight": torch.zeros(1)}
    resized = checkpoint_filter_fn({**native, **theirs}, model)
    larger = ours(strides, 24)
    state = by_our_names({name.removeprefix("attn."): x for name, x in resized.items() if name not in native})
    larger.load_state_dict({**layer.state_dict(), **state})
    x = torch.randn(2, 24, 24, 8)
    torch.testing.assert_close(layer(x), larger(x))


@STRIDES
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (9, 31)], ids=str)
def test_every_map_is_taken_and_pooled_by_the_stride_of_queries(
    size: tuple[int, int], strides: tuple[int, int]
) -> None:
    out = ours(strides, 8)(torch.randn(2, *size, 8))
    assert out.shape == (2, -(-size[0] // strides[0]), -(-size[1] // strides[0]), 16)


def test_gradients_reach_the_input_and_every_parameter() -> None:
    layer = PoolingAttention(4, 2, query_stride=2, map_size=5).double()
    x = torch.randn(1, 4, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)
    layer(x).square().sum().backward()
    assert [name for name, p in layer.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_dropout_acts_in_training_only() -> None:
    layer, x = PoolingAttention(8, 2, attn_drop=0.5), torch.randn(1, 8, 8, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_under_autocast_the_layer_runs_in_half_precision_and_trains() -> None:
    layer = PoolingAttention(8, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(torch.randn(1, 5, 6, 8))
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())


def test_qkv_may_have_no_bias() -> None:
    assert PoolingAttention(8, 2, qkv_bias=False).qkv.bias is None


@pytest.mark.parametrize("strides", fast([(1, 4), (2, 1)]), ids=str)
def test_one_exported_program_holds_for_every_size(strides: tuple[int, int]) -> None:
    layer = ours(strides, 8).eval()
    # From 5 on, so that no pooled side is one: torch.export treats size one as a case of its own.
    shapes = ({0: Dim("batch"), 1: Dim("height", min=5), 2: Dim("width", min=5)},)
    program = torch.export.export(layer, (torch.randn(2, 8, 11, 8),), dynamic_shapes=shapes)
    values = [node.meta.get("val") for node in program.run_decompositions({}).graph.nodes]
    assert max(value.ndim for value in values if isinstance(value, Tensor)) <= 5
    for size in [(5, 5), (8, 8), (8, 21)]:
        x = torch.randn(3, *size, 8)
        torch.testing.assert_close(program.module()(x), layer(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 3}, "out_dim must be a multiple of num_heads, got out_dim=8 and num_heads=3"),
        ({"num_heads": 0}, "out_dim must be a multiple of num_heads, got out_dim=8 and num_heads=0"),
        ({"num_heads": 2, "out_dim": 9}, "out_dim must be a multiple of num_heads, got out_dim=9"),
        ({"num_heads": 2, "key_stride": 0}, "must be at least 1, got 1, 0 and 14"),
        ({"num_heads": 2, "map_size": (4, 0)}, r"must be at least 1, got 1, 1 and \(4, 0\)"),
    ],
    ids=["heads", "no heads", "out", "stride", "map"],
)
def test_bad_sizes_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PoolingAttention(8, **arguments)


def test_a_map_of_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x must be a map \(B, H, W, C\) with C = 8, got \(1, 64, 8\)"):
        PoolingAttention(8, 2)(torch.zeros(1, 64, 8))
