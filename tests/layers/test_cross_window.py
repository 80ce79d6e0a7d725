# SPDX-License-Identifier: Apache-2.0
"""Cross-shaped windows: brute force over all pairs of positions, at the borders of stripes and map."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from slideformer.layers import CrossWindowAttention, PatchMerging
from tests.tiers import fast

SIZES = pytest.mark.parametrize("size", [(6, 6), (4, 10), (7, 9), (5, 2), (1, 1), (1, 8)], ids=str)
WIDTHS = pytest.mark.parametrize("stripe_width", [1, 2, 3, 7, None])


def place(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Row and column of each position of a flat map: ``2 (N)``."""
    row, column = torch.meshgrid(*map(torch.arange, size), indexing="ij")
    return row.flatten(), column.flatten()


def stripe(layer: CrossWindowAttention, head: int, size: tuple[int, int]) -> Tensor:
    """Number of the stripe that each position of a flat map is in: ``(N)``."""
    row, column = place(size)
    if layer.stripe_width is None:
        return torch.zeros_like(row)
    return (column if head < layer.num_heads // 2 else row) // layer.stripe_width


def expected(layer: CrossWindowAttention, x: Tensor) -> Tensor:
    """The definition, with all pairs of positions: those in different stripes do not meet."""
    size = x.shape[1:3]
    row, column = place(size)
    query, key, value = layer.qkv(x).flatten(1, 2).unflatten(-1, (3, layer.num_heads, -1)).unbind(2)
    weight = torch.cat([each.weight for each in layer.lepe]).flatten(1).unflatten(0, (layer.num_heads, -1))
    bias = torch.cat([each.bias for each in layer.lepe]).unflatten(0, (layer.num_heads, -1))
    out = []
    for head in range(layer.num_heads):
        number = stripe(layer, head, size)
        together = number[:, None] == number
        q, k, v = query[:, :, head], key[:, :, head], value[:, :, head]
        logits = torch.where(together, q @ k.mT / q.shape[-1] ** 0.5, -torch.inf)
        y = logits.softmax(-1) @ v + bias[head]
        for tap in range(9):
            neighbour = (row == row[:, None] + tap // 3 - 1) & (column == column[:, None] + tap % 3 - 1)
            y = y + (neighbour & together).to(v) @ v * weight[head, :, tap]
        out.append(y)
    return layer.proj(torch.cat(out, -1)).unflatten(1, size)


@WIDTHS
@SIZES
def test_it_is_the_definition(size: tuple[int, int], stripe_width: int | None) -> None:
    layer = CrossWindowAttention(8, 4, stripe_width).double()
    x = torch.randn(2, *size, 8, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(layer(x), expected(layer, x))
    arguments = (x, *layer.parameters())
    ours = torch.autograd.grad(layer(x).square().sum(), arguments)
    for mine, right in zip(
        ours, torch.autograd.grad(expected(layer, x).square().sum(), arguments), strict=True
    ):
        torch.testing.assert_close(mine, right)


def test_a_vertical_stripe_by_itself_gives_the_same() -> None:
    layer, x = CrossWindowAttention(8, 2, 3), torch.randn(2, 6, 9, 8)
    # The second head, which sees the whole row, does not count.
    nn.init.zeros_(layer.proj.weight[:, 4:])
    alone = layer(x[:, :, 3:6])
    torch.testing.assert_close(layer(x)[:, :, 3:6], alone)


@pytest.mark.parametrize("stripe_width", [2, None], ids=str)
def test_dropout_acts_in_training_only(stripe_width: int | None) -> None:
    layer, x = CrossWindowAttention(8, 2, stripe_width, attn_drop=0.5), torch.randn(1, 5, 4, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_qkv_may_have_no_bias() -> None:
    layer = CrossWindowAttention(8, 2, 2, qkv_bias=False)
    assert layer.qkv.bias is None
    assert layer(torch.randn(1, 5, 6, 8)).shape == (1, 5, 6, 8)


def test_a_map_may_have_any_strides() -> None:
    layer, x = CrossWindowAttention(8, 2, 2), torch.randn(2, 8, 5, 6)
    turned = x.permute(0, 2, 3, 1)
    torch.testing.assert_close(layer(turned), layer(turned.contiguous()))


@pytest.mark.parametrize("heads", fast([2, 4]))
@pytest.mark.parametrize("example", fast([(7, 9), (16, 30)], (16, 30)), ids=str)
def test_one_exported_program_holds_for_every_size(example: tuple[int, int], heads: int) -> None:
    # The merged map of one program fits into one stripe at some sizes and not at others.
    model = nn.Sequential(
        CrossWindowAttention(8, heads, 7),
        PatchMerging(8, 8),
        *(CrossWindowAttention(8, heads, w) for w in (2, None)),
    ).eval()
    # From 3 on, so that no map has a side of one: torch.export treats size one as a case of its own.
    shapes = ({0: Dim("batch"), 1: Dim("height", min=3), 2: Dim("width", min=3)},)
    program = torch.export.export(model, (torch.randn(2, *example, 8),), dynamic_shapes=shapes)
    values = [node.meta.get("val") for node in program.graph.nodes]
    assert max(value.ndim for value in values if isinstance(value, torch.Tensor)) <= 5
    for size in [(3, 3), (7, 7), (8, 7), (14, 15), (29, 4)]:
        x = torch.randn(3, *size, 8)
        torch.testing.assert_close(program.module()(x), model(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 8, "num_heads": 3}, "dim must be a multiple of num_heads, got dim=8 and num_heads=3"),
        ({"dim": 9, "num_heads": 3}, "num_heads must be even, half of them for each direction, got 3"),
        ({"dim": 8, "num_heads": 2, "stripe_width": 0}, "stripe_width must be at least 1, got 0; use None"),
    ],
    ids=["heads", "odd", "width"],
)
def test_bad_sizes_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossWindowAttention(**arguments)


def test_an_odd_number_of_heads_may_see_the_whole_map() -> None:
    layer, x = CrossWindowAttention(9, 3, None), torch.randn(1, 4, 5, 9)
    torch.testing.assert_close(layer(x), expected(layer, x), atol=1e-5, rtol=1e-5)


def test_a_map_of_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x must be a map \(B, H, W, C\) with C = 8, got \(1, 64, 8\)"):
        CrossWindowAttention(8, 2)(torch.zeros(1, 64, 8))
