# SPDX-License-Identifier: Apache-2.0
"""Attention to points of the map that the queries choose, as in DAT."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.layers.channels_first import channels_first
from slideformer.layers.dot_product import dot_product_attention
from slideformer.layers.linear import Linear
from slideformer.layers.map_checks import check_map


class DeformableAttention(nn.Module):
    """Every position attends to the same few points, which a small network moves (Xia et al., DAT, 2022).

    A grid of reference points, one for ``stride`` x ``stride`` positions, is shifted by offsets that a
    depthwise convolution finds in the queries. Keys and values are projected from the map sampled there,
    bilinearly. Channels and heads fall into R groups with offsets of their own. A learned table of position
    biases is read, bilinearly too, at the displacement of each query from each point.

    As in the code of DAT++, and unlike the paper's text, reference points are half a position to the lower
    right of where positions of the smaller map would be: the authors' weights were trained so.

    Args:
        dim: channels C of the map, a multiple of ``num_heads``.
        num_heads: heads G, a multiple of ``groups``.
        groups: R.
        stride: positions a side for one point.
        kernel_size: odd side of the offsets' convolution, in positions.
        offset_range: the furthest that a point moves, in halves of the spacing of points (the authors'
            ``offset_range_factor``); None for anywhere on the map.
        map_size: side, or rows and columns, of the maps that the position biases are made for; the table
            spans any other map, too.
        qkv_bias: whether the projections to query, key and value have a bias.
        attn_drop: dropout of the attention weights, a probability.
        proj_drop: dropout of the output, a probability.

    Shape: ``(B, H, W, C) -> (B, H, W, C)``, any ``H`` and ``W`` at every call.

    Raises:
        ValueError: ``dim`` is not a multiple of ``num_heads``, or that of ``groups``, ``kernel_size`` is
            even, or another size is less than 1; on a call, ``x`` is not a map of C channels.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        groups: int,
        *,
        stride: int = 1,
        kernel_size: int = 3,
        offset_range: float | None = None,
        map_size: int | tuple[int, int] = 14,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        height, width = (map_size, map_size) if isinstance(map_size, int) else map_size
        if min(dim, num_heads, groups) < 1 or dim % num_heads or num_heads % groups:
            raise ValueError(
                "dim must be a multiple of num_heads, and that of groups, "
                f"got dim={dim}, num_heads={num_heads} and groups={groups}"
            )
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}; use {kernel_size + 1}")
        if min(stride, kernel_size, height, width) < 1:
            raise ValueError(
                "stride, kernel_size and map_size must be at least 1, "
                f"got {stride}, {kernel_size} and {map_size}"
            )
        self.dim = dim
        self.num_heads = num_heads
        self.groups = groups
        self.offset_range = offset_range
        self.attn_drop = attn_drop
        self.query = Linear(dim, dim, bias=qkv_bias)
        self.offsets = OffsetNetwork(dim // groups, kernel_size, stride)
        self.key_value = Linear(dim, 2 * dim, bias=qkv_bias)
        self.relative_position_bias_table = nn.Parameter(
            torch.empty(num_heads, 2 * height - 1, 2 * width - 1)
        )
        self.proj = Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters of this layer itself."""
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: ``(B, H, W, C) -> (B, H, W, C)``."""
        check_map(x, self.dim)
        query = self.query(x)
        points = self.points(query)
        key, value = self.heads(self.key_value(self.sample(x, points))).chunk(2, dim=1)
        out = dot_product_attention(
            self.heads(query.flatten(1, 2)),
            key,
            value,
            mask=self.position_bias(points, *x.shape[1:3]).to(query.dtype),
            dropout=self.attn_drop if self.training else 0.0,
        )
        # Always a copy: whether the transpose is contiguous depends on the runtime's attention.
        out = out.transpose(1, 2).clone(memory_format=torch.contiguous_format)
        return self.proj_drop(self.proj(out.flatten(2).unflatten(1, x.shape[1:3])))

    def points(self, query: Tensor) -> Tensor:
        """Points where keys and values are sampled, as (row, column): ``(B, H, W, C) -> (B R, H', W', 2)``.

        Coordinates are -1 at the first and 1 at the last position of an axis.
        """
        offsets = self.offsets(self.grouped(query))
        # Half precision has too few digits for a place on a large map.
        offsets = offsets.to(torch.promote_types(offsets.dtype, torch.float32))
        height, width = offsets.shape[1:3]
        reference = grid(height, width, 0.5, offsets)
        if self.offset_range is None:
            return (reference + offsets).clamp(-1, 1)
        sides = torch.stack([spacings(height, offsets), spacings(width, offsets)])
        return reference + offsets.tanh() * self.offset_range / sides

    def sample(self, x: Tensor, points: Tensor) -> Tensor:
        """The map at the points: ``(B, H, W, C), (B R, H', W', 2) -> (B, M, C)``, M = H' * W'."""
        sampled = F.grid_sample(self.grouped(x).to(points.dtype), points.flip(-1), align_corners=True)
        sampled = sampled.to(x.dtype).flatten(2).unflatten(0, (-1, self.groups))  # (B, R, C / R, M)
        return sampled.flatten(1, 2).transpose(1, 2)

    def position_bias(self, points: Tensor, height: int, width: int) -> Tensor:
        """The positions' part of the logits: ``(B R, H', W', 2) -> (B, G, N, M)``, N = H * W queries."""
        queries = grid(height, width, 0.0, points).flatten(0, 1)  # (N, 2)
        # A displacement by the side of the map, which is 2, is the edge of the table.
        displacement = (queries[:, None] - points.flatten(1, 2)[:, None]) / 2  # (B R, N, M, 2)
        table = self.relative_position_bias_table.to(points.dtype).unflatten(0, (self.groups, -1))
        table = table.repeat(points.shape[0] // self.groups, 1, 1, 1)  # (B R, G / R, rows, columns)
        bias = F.grid_sample(table, displacement.flip(-1), align_corners=True)
        return bias.unflatten(0, (-1, self.groups)).flatten(1, 2)

    def grouped(self, x: Tensor) -> Tensor:
        """A map of each group: ``(B, H, W, C) -> (B R, C / R, H, W)``."""
        return channels_first(x).unflatten(1, (self.groups, -1)).flatten(0, 1)

    def heads(self, x: Tensor) -> Tensor:
        """Channels by head: ``(B, N, C) -> (B, G, N, D)``, or 2 G of ``(B, N, 2 C)``."""
        return x.unflatten(-1, (-1, self.dim // self.num_heads)).transpose(1, 2)

    def extra_repr(self) -> str:
        """Options, for ``print``."""
        return (
            f"dim={self.dim}, num_heads={self.num_heads}, groups={self.groups}, "
            f"offset_range={self.offset_range}"
        )


class OffsetNetwork(nn.Module):
    """The offset of each point: a strided depthwise convolution, a norm, a GELU and a projection.

    Args:
        channels: channels C' of the queries of one group.
        kernel_size: odd side of the convolution.
        stride: positions a side for one point.

    Shape: ``(B, C', H, W) -> (B, ceil(H / stride), ceil(W / stride), 2)``, (row, column).
    """

    def __init__(self, channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels, channels, kernel_size, stride, padding=kernel_size // 2, groups=channels
        )
        self.norm = nn.LayerNorm(channels)
        self.proj = nn.Linear(channels, 2, bias=False)

    def forward(self, query: Tensor) -> Tensor:
        """Compute the offsets: ``(B, C', H, W) -> (B, H', W', 2)``."""
        return self.proj(F.gelu(self.norm(self.depthwise(query).permute(0, 2, 3, 1))))


def spacings(count: int, like: Tensor) -> Tensor:
    """Distances between the first and the last of ``count`` positions, at least one: a scalar."""
    # A tensor, so that an exported program takes the larger one when it runs.
    return torch.full((), count - 1, dtype=like.dtype, device=like.device).clamp(min=1)


def grid(height: int, width: int, shift: float, like: Tensor) -> Tensor:
    """Coordinates (row, column) of a map's positions: -1 for the first, 1 for the last, 0 for a single one.

    Args:
        height: rows H.
        width: columns W.
        shift: added to each, in positions, unless there is only one.
        like: gives the dtype and the device.

    Returns:
        ``(H, W, 2)``.
    """
    axes = []
    for size in (height, width):
        # A tensor, so that an exported program recognises a single position when it runs.
        last = torch.full((), size - 1, dtype=like.dtype, device=like.device)
        place = torch.arange(size, dtype=like.dtype, device=like.device) + shift * last.clamp(max=1)
        axes.append((2 * place - last) / spacings(size, like))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
