# SPDX-License-Identifier: Apache-2.0
"""Neighborhood attention: brute force over every query, at borders, with dilation, on maps of every size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.export import Dim

from slideformer.layers import NeighborhoodAttention
from slideformer.ops import backends

CASES = pytest.mark.parametrize(
    ("size", "kernel_size", "dilation"),
    [
        ((7, 7), 7, 1),
        ((9, 12), 3, 1),
        ((8, 11), 5, 1),
        ((13, 9), 3, 2),
        ((10, 16), 3, 3),
        ((15, 14), 7, 2),
        ((4, 9), 7, 1),
        ((3, 5), 5, 2),
        ((1, 1), 7, 1),
        ((1, 10), 3, 1),
    ],
    ids=str,
)


def nearest(position: int, length: int, kernel_size: int, dilation: int) -> list[int]:
    """The neighbours of a position on a line: of its own grid the run of K whose middle is nearest."""
    grid = [place for place in range(length) if (place - position) % dilation == 0]
    taps = min(kernel_size, len(grid))
    own = grid.index(position)
    starts = range(len(grid) - taps + 1)
    first = min(starts, key=lambda start: abs(start + taps // 2 - own)) if taps == kernel_size else 0
    return grid[first : first + taps]


def expected(layer: NeighborhoodAttention, x: Tensor) -> Tensor:
    """The definition, query by query and head by head."""
    size, dilation = layer.kernel_size, layer.dilation
    query, key, value = layer.heads(x)
    out = torch.zeros_like(query)
    height, width = x.shape[1:3]
    for i in range(height):
        rows = nearest(i, height, size, dilation)
        for j in range(width):
            columns = nearest(j, width, size, dilation)
            k, v = (y[:, rows][:, :, columns].flatten(1, 2) for y in (key, value))  # (B, taps, G, D)
            down = torch.tensor([(row - i) // dilation + size - 1 for row in rows])
            right = torch.tensor([(column - j) // dilation + size - 1 for column in columns])
            bias = layer.relative_position_bias_table[:, down[:, None], right].flatten(1)  # (G, taps)
            logits = torch.einsum("bgd,btgd->bgt", query[:, i, j], k) / query.shape[-1] ** 0.5 + bias
            out[:, i, j] = torch.einsum("bgt,btgd->bgd", logits.softmax(-1), v)
    return layer.proj(out.flatten(3))


@CASES
def test_it_is_the_definition(size: tuple[int, int], kernel_size: int, dilation: int) -> None:
    layer = NeighborhoodAttention(8, 2, kernel_size, dilation=dilation).double()
    torch.nn.init.normal_(layer.relative_position_bias_table)
    x = torch.randn(2, *size, 8, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(layer(x), expected(layer, x))
    arguments = (x, *layer.parameters())
    ours = torch.autograd.grad(layer(x).square().sum(), arguments)
    for mine, right in zip(
        ours, torch.autograd.grad(expected(layer, x).square().sum(), arguments), strict=True
    ):
        torch.testing.assert_close(mine, right)


@CASES
def test_every_backend_gives_the_same(size: tuple[int, int], kernel_size: int, dilation: int) -> None:
    layer = NeighborhoodAttention(8, 2, kernel_size, dilation=dilation)
    torch.nn.init.normal_(layer.relative_position_bias_table)
    x = torch.randn(2, *size, 8)
    right = expected(layer, x)
    for name in ("auto", *(backend.name for backend in backends() if not backend.automatic)):
        layer.backend = name
        torch.testing.assert_close(layer(x), right, atol=1e-5, rtol=1e-4, msg=name)


def test_attention_weights_are_those_of_the_output() -> None:
    layer, x = NeighborhoodAttention(8, 2, 3), torch.randn(1, 5, 6, 8)
    weights = layer.attention_weights(x)
    assert weights.shape == (1, 5, 6, 2, 9)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 5, 6, 2))


def test_dropout_acts_in_training_only() -> None:
    layer, x = NeighborhoodAttention(8, 2, 3, attn_drop=0.5), torch.randn(1, 8, 8, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    layer.attn_drop = 0.0
    evaluated = layer(x)
    # So small a share that nothing is dropped: the same sums by way of the weights.
    layer.train().attn_drop = 1e-12
    torch.testing.assert_close(layer(x), evaluated, atol=1e-5, rtol=1e-5)


def test_qkv_may_have_no_bias() -> None:
    layer = NeighborhoodAttention(8, 2, 3, qkv_bias=False)
    assert layer.qkv.bias is None
    assert layer(torch.randn(1, 5, 6, 8)).shape == (1, 5, 6, 8)


def test_one_exported_program_holds_for_every_size() -> None:
    layer = NeighborhoodAttention(8, 2, 5, dilation=2).eval()
    shapes = ({0: Dim("batch"), 1: Dim("height", min=2), 2: Dim("width", min=2)},)
    program = torch.export.export(layer, (torch.randn(2, 12, 9, 8),), dynamic_shapes=shapes)
    values = [node.meta.get("val") for node in program.graph.nodes]
    assert max(value.ndim for value in values if isinstance(value, torch.Tensor)) <= 5
    for size in [(2, 2), (5, 3), (9, 12), (16, 31)]:
        x = torch.randn(3, *size, 8)
        torch.testing.assert_close(program.module()(x), layer(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 3}, "dim must be a multiple of num_heads, got dim=8 and num_heads=3"),
        ({"num_heads": 2, "kernel_size": 4}, "kernel_size must be odd, got 4; use 5"),
        ({"num_heads": 2, "dilation": 0}, "dilation must be at least 1, got 0"),
    ],
    ids=["heads", "kernel", "dilation"],
)
def test_bad_sizes_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NeighborhoodAttention(8, **arguments)


def test_a_map_of_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x must be a map \(B, H, W, C\) with C = 8, got \(1, 64, 8\)"):
        NeighborhoodAttention(8, 2)(torch.zeros(1, 64, 8))
