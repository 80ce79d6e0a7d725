# SPDX-License-Identifier: Apache-2.0
"""Deformable attention: against loops over every query, and against global attention."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from slideformer.layers.deformable_attention import DeformableAttention
from tests.tiers import fast

Grid = np.ndarray


def layer_with(**arguments: object) -> DeformableAttention:
    """A layer in float64 whose offsets and biases are large enough to matter."""
    layer = DeformableAttention(8, **{"num_heads": 4, "groups": 2, "map_size": 5, **arguments}).double()
    nn.init.normal_(layer.offsets.proj.weight)
    nn.init.normal_(layer.relative_position_bias_table)
    return layer


def bilinear(values: Grid, row: float, column: float) -> Grid:
    """The map ``(C, H, W)`` at a place in positions; zeros surround it."""
    out = np.zeros(len(values))
    for i in (int(np.floor(row)), int(np.floor(row)) + 1):
        for j in (int(np.floor(column)), int(np.floor(column)) + 1):
            if 0 <= i < values.shape[1] and 0 <= j < values.shape[2]:
                out += (1 - abs(row - i)) * (1 - abs(column - j)) * values[:, i, j]
    return out


def by_loops(layer: DeformableAttention, x: Tensor, stride: int) -> Grid:
    """The definition, query by query, for a batch of one; offsets alone come from the layer."""
    state = {name: p.detach().numpy() for name, p in layer.named_parameters()}

    def project(name: str, values: Grid) -> Grid:
        return values @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    _, height, width, dim = x.shape
    groups, heads = layer.groups, layer.num_heads
    offsets = layer.offsets(layer.grouped(layer.query(x))).detach().numpy()
    rows, columns = -(-height // stride), -(-width // stride)
    assert offsets.shape == (groups, rows, columns, 2)
    grid = x[0].numpy()
    query = project("query", grid)
    table = state["relative_position_bias_table"]
    out = np.zeros((height, width, dim))
    points = np.zeros((groups, rows * columns, 2))
    sampled = np.zeros((rows * columns, dim))
    share = dim // groups
    for group in range(groups):
        for n, (i, j) in enumerate(np.ndindex(rows, columns)):
            for axis, (place, count) in enumerate(((i, rows), (j, columns))):
                moved, spacing = offsets[group, i, j, axis], 1 / max(count - 1, 1)
                reference = 2 * (place + 0.5) * spacing - 1
                if layer.offset_range is None:
                    points[group, n, axis] = min(max(reference + moved, -1), 1)
                else:
                    points[group, n, axis] = reference + np.tanh(moved) * layer.offset_range * spacing
            row, column = (points[group, n] + 1) / 2 * (height - 1, width - 1)
            channels = slice(group * share, (group + 1) * share)
            sampled[n, channels] = bilinear(grid[:, :, channels].transpose(2, 0, 1), row, column)
    key, value = np.split(project("key_value", sampled), 2, axis=-1)
    for head in range(heads):
        channels = slice(head * dim // heads, (head + 1) * dim // heads)
        places = points[head * groups // heads]
        for i, j in np.ndindex(height, width):
            # From -1 to 1; a lone row or column is the middle.
            here = np.array(
                [
                    2 * place / (count - 1) - 1 if count > 1 else 0
                    for place, count in ((i, height), (j, width))
                ]
            )
            # A displacement of -2 is the first entry of the table, one of 2 the last.
            entries = ((here - places) / 2 + 1) / 2 * (np.array(table.shape[1:]) - 1)
            bias = np.array([bilinear(table[head : head + 1], *entry)[0] for entry in entries])
            logits = key[:, channels] @ query[i, j, channels] * (dim // heads) ** -0.5 + bias
            weights = np.exp(logits - logits.max())
            out[i, j, channels] = weights / weights.sum() @ value[:, channels]
    return project("proj", out)


CASES = {
    "anywhere": {},
    "stride": {"stride": 2, "kernel_size": 5},
    "range": {"offset_range": 2.0},
    "range and stride": {"offset_range": 3.5, "stride": 4, "kernel_size": 5},
    "one group": {"groups": 1},
    "a group a head": {"groups": 4},
}


@pytest.mark.parametrize("size", [(5, 5), (4, 7), (1, 6)], ids=str)
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_every_query_gets_what_the_definition_says(options: dict[str, int], size: tuple[int, int]) -> None:
    layer, x = layer_with(**options), torch.randn(1, *size, 8, dtype=torch.float64)
    expected = by_loops(layer, x, options.get("stride", 1))
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), expected, atol=1e-12)


def test_with_points_on_every_position_it_is_global_attention() -> None:
    layer, x = layer_with(), torch.randn(2, 5, 7, 8, dtype=torch.float64)
    with torch.no_grad():
        # Offsets of minus half a position, which put the reference points where positions are.
        for p in layer.offsets.norm.parameters():
            p.zero_()
        layer.offsets.norm.bias.fill_(1)
        half = -1 / torch.tensor([5 - 1, 7 - 1], dtype=torch.float64)
        layer.offsets.proj.weight.copy_((half / F.gelu(torch.ones(4).double()).sum())[:, None].expand(2, 4))
        layer.relative_position_bias_table.zero_()
    query = layer.heads(layer.query(x).flatten(1, 2))
    key, value = layer.heads(layer.key_value(x).flatten(1, 2)).chunk(2, dim=1)
    out = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(x), layer.proj(out).unflatten(1, (5, 7)))


def test_images_of_a_batch_do_not_see_each_other() -> None:
    layer, x = layer_with(stride=2), torch.randn(3, 5, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), torch.cat([layer(image[None]) for image in x]))


def test_points_stay_on_the_map_where_no_range_is_given() -> None:
    layer, query = layer_with(), 100 * torch.randn(2, 9, 9, 8, dtype=torch.float64)
    nn.init.normal_(layer.offsets.proj.weight, std=10)
    points = layer.points(query)
    assert points.abs().max() == 1
    assert layer_with(stride=4).points(query).shape == (4, 3, 3, 2)


def test_points_move_no_further_than_so_many_halves_of_their_spacing() -> None:
    near, query = layer_with(offset_range=1.5), torch.randn(2, 9, 9, 8, dtype=torch.float64)
    nn.init.normal_(near.offsets.proj.weight, std=1e3)
    row = (torch.arange(9) + 0.5) / 4 - 1
    moved = near.points(query)[..., 0] - row[:, None]
    assert moved.abs().max().item() == pytest.approx(1.5 / 8)
    # From one point to the next it is 2 / 8.


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (30, 17)], ids=str)
@pytest.mark.parametrize("offset_range", [None, 2.0])
def test_every_map_is_taken(size: tuple[int, int], offset_range: float | None) -> None:
    layer = DeformableAttention(8, 4, 2, stride=4, kernel_size=5, offset_range=offset_range)
    out = layer(torch.randn(2, *size, 8))
    assert out.shape == (2, *size, 8)
    out.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_gradients_reach_the_input_and_every_parameter() -> None:
    layer = layer_with(stride=2, offset_range=0.3)
    x = torch.randn(1, 4, 5, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)
    layer(x).square().sum().backward()
    # A bias of all keys alike changes no weight.
    grads = {name: p.grad for name, p in layer.named_parameters()}
    assert [name for name, grad in grads.items() if grad is None or not grad.any()] == []


def test_dropout_acts_in_training_only() -> None:
    layer, x = DeformableAttention(8, 2, 1, attn_drop=0.5), torch.randn(1, 8, 8, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_under_autocast_places_keep_their_precision() -> None:
    layer, query = DeformableAttention(8, 2, 1), torch.randn(1, 5, 6, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer.points(query.bfloat16()).dtype == torch.float32
        out = layer(query)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())


def test_projections_may_have_no_bias() -> None:
    layer = DeformableAttention(8, 2, 1, qkv_bias=False)
    assert layer.query.bias is layer.key_value.bias is None


@pytest.mark.parametrize(
    "options", fast([{"stride": 2}, {"offset_range": 2.0}], {"offset_range": 2.0}), ids=str
)
def test_one_exported_program_holds_for_every_size(options: dict[str, float]) -> None:
    layer = DeformableAttention(8, 4, 2, **options).eval()
    # From 3 on, so that no grid has a side of one: torch.export treats size one as a case of its own.
    shapes = ({0: Dim("batch"), 1: Dim("height", min=3), 2: Dim("width", min=3)},)
    program = torch.export.export(layer, (torch.randn(2, 8, 11, 8),), dynamic_shapes=shapes)
    values = [node.meta.get("val") for node in program.run_decompositions({}).graph.nodes]
    assert max(value.ndim for value in values if isinstance(value, Tensor)) <= 5
    for size in [(3, 3), (8, 8), (9, 21)]:
        x = torch.randn(3, *size, 8)
        torch.testing.assert_close(program.module()(x), layer(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 3}, "got dim=8, num_heads=3 and groups=2"),
        ({"groups": 3}, "got dim=8, num_heads=4 and groups=3"),
        ({"groups": 0}, "dim must be a multiple of num_heads, and that of groups, got"),
        ({"kernel_size": 4}, "kernel_size must be odd, got 4; use 5"),
        ({"stride": 0}, "must be at least 1, got 0, 3 and 14"),
        ({"map_size": (7, 0)}, r"must be at least 1, got 1, 3 and \(7, 0\)"),
    ],
    ids=["heads", "groups", "no groups", "kernel", "stride", "map"],
)
def test_bad_sizes_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeformableAttention(8, **{"num_heads": 4, "groups": 2, **arguments})


def test_a_map_of_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x must be a map \(B, H, W, C\) with C = 8, got \(1, 64, 8\)"):
        DeformableAttention(8, 2, 1)(torch.zeros(1, 64, 8))
