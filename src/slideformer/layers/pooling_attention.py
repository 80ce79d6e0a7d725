# SPDX-License-Identifier: Apache-2.0
"""Attention whose queries, keys and values are pooled, as in MViTv2."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from slideformer.layers.dot_product import dot_product_attention
from slideformer.layers.linear import Linear
from slideformer.layers.map_checks import check_map
from slideformer.layers.patch import pad_to_multiple


class PoolingAttention(nn.Module):
    """Attention between pooled maps of queries, keys and values (Li et al., MViTv2, 2022, section 3).

    Strided 3 x 3 depthwise convolutions, each with one kernel for all heads, pool the three, and a norm
    follows each. Pooled queries make the map smaller where their stride is not 1; they are added to the
    output (residual pooling). Relative positions are learned along rows and along columns, as vectors
    that meet the query; for maps of another size than they were made for they are interpolated.

    Args:
        dim: channels C of the map.
        num_heads: heads G.
        out_dim: channels C' of the new map, a multiple of ``num_heads``; None for ``dim``.
        query_stride: positions a side that one query stands for.
        key_stride: positions a side that one key and its value stand for.
        map_size: side, or rows and columns, of the maps that the relative positions are made for.
        qkv_bias: whether the projection to query, key and value has a bias.
        attn_drop: dropout of the attention weights, a probability.
        proj_drop: dropout of the output, a probability.
        norm_layer: builds the norms from their number of channels.

    Shape: ``(B, H, W, C) -> (B, ceil(H / query_stride), ceil(W / query_stride), C')``, any ``H``
    and ``W`` at every call.

    Raises:
        ValueError: ``out_dim`` is not a multiple of ``num_heads``, or a stride or ``map_size`` is less than
            1; on a call, ``x`` is not a map of C channels.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        out_dim: int | None = None,
        query_stride: int = 1,
        key_stride: int = 1,
        map_size: int | tuple[int, int] = 14,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        norm_layer: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        out_dim = dim if out_dim is None else out_dim
        height, width = (map_size, map_size) if isinstance(map_size, int) else map_size
        if num_heads < 1 or min(dim, out_dim) < 1 or out_dim % num_heads:
            raise ValueError(
                f"out_dim must be a multiple of num_heads, got out_dim={out_dim} and num_heads={num_heads}"
            )
        if min(query_stride, key_stride, height, width) < 1:
            raise ValueError(
                "query_stride, key_stride and map_size must be at least 1, "
                f"got {query_stride}, {key_stride} and {map_size}"
            )
        self.dim = dim
        self.num_heads = num_heads
        self.attn_drop = attn_drop
        channels = out_dim // num_heads
        self.qkv = Linear(dim, 3 * out_dim, bias=qkv_bias)
        self.query_pool = HeadPooling(channels, query_stride, norm_layer)
        self.key_pool = HeadPooling(channels, key_stride, norm_layer)
        self.value_pool = HeadPooling(channels, key_stride, norm_layer)
        stride = min(query_stride, key_stride)
        self.relative_position_rows, self.relative_position_columns = (
            nn.Parameter(torch.empty(2 * -(-size // stride) - 1, channels)) for size in (height, width)
        )
        self.proj = Linear(out_dim, out_dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters of this layer itself."""
        nn.init.trunc_normal_(self.relative_position_rows, std=0.02)
        nn.init.trunc_normal_(self.relative_position_columns, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: ``(B, H, W, C) -> (B, H', W', C')``."""
        check_map(x, self.dim)
        pools = (self.query_pool, self.key_pool, self.value_pool)
        parts = self.qkv(x).chunk(3, dim=-1)
        maps = [pool(part) for pool, part in zip(pools, parts, strict=True)]  # (B G, H', W', D)
        bias = self.position_bias(maps[0], maps[1])
        query, key, value, bias = (part.unflatten(0, (-1, self.num_heads)) for part in (*flat(maps), bias))
        out = dot_product_attention(
            query,
            key,
            value,
            mask=bias.to(query.dtype),
            dropout=self.attn_drop if self.training else 0.0,
        )
        out = (out + query).transpose(1, 2).flatten(2)  # (B, N, C')
        return self.proj_drop(self.proj(out.unflatten(1, maps[0].shape[1:3])))

    def position_bias(self, query: Tensor, key: Tensor) -> Tensor:
        """The positions' part of the logits: maps ``(B G, H, W, D)`` of both ``-> (B G, N, M)``."""
        _, height, width, _ = query.shape
        rows = relative_positions(self.relative_position_rows, height, key.shape[1])
        columns = relative_positions(self.relative_position_columns, width, key.shape[2])
        # With the axis moved next to the batch, this is a product of matrices.
        by_row = query @ rows.transpose(1, 2)  # (B G, H, W, H'), H' rows of keys
        by_column = (query.transpose(1, 2) @ columns.transpose(1, 2)).transpose(1, 2)  # (B G, H, W, W')
        return (by_row[..., None] + by_column[..., None, :]).flatten(3).flatten(1, 2)

    def extra_repr(self) -> str:
        """Options, for ``print``."""
        return f"dim={self.dim}, num_heads={self.num_heads}"


class HeadPooling(nn.Module):
    """A strided 3 x 3 depthwise convolution, one for all heads, and a norm.

    Args:
        channels: channels D of a head.
        stride: positions a side that become one.
        norm_layer: builds the norm from its number of channels.

    Shape: ``(B, H, W, G D) -> (B G, H', W', D)``.
    """

    def __init__(self, channels: int, stride: int, norm_layer: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
        self.norm = norm_layer(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Pool: ``(B, H, W, G D) -> (B G, H', W', D)``."""
        # The convolution would add these zeros; so an exported program knows the size as a quotient.
        x = pad_to_multiple(x, self.stride).unflatten(-1, (-1, self.conv.in_channels))
        return self.norm(self.conv(x.permute(0, 3, 4, 1, 2).flatten(0, 1)).permute(0, 2, 3, 1))


def flat(maps: list[Tensor]) -> list[Tensor]:
    """Flatten maps: each ``(B G, H, W, D) -> (B G, N, D)``."""
    return [x.flatten(1, 2) for x in maps]


def relative_positions(table: Tensor, queries: int, keys: int) -> Tensor:
    """The learned vector of each query and key along an axis: ``(L, D) -> (queries, keys, D)``.

    Where one side has fewer positions, each of them is at the first of those that it covers; distances
    are counted on the finer side, and rounded down where the coarser does not divide it. A table that was
    made for another number of distances is interpolated linearly.
    """
    # Sizes as tensors: an exported program does the arithmetic when it runs, and chooses the finer side.
    # Whole numbers as long as possible: a float that should be 3 may be 2.999.
    count, other = (torch.full((), size, device=table.device) for size in (queries, keys))
    query = torch.arange(queries, device=table.device)[:, None]
    key = torch.arange(keys, device=table.device)
    finer = torch.maximum(count, other)
    distance = (query * other + (other - 1 - key) * count) * finer // (count * other)  # (queries, keys)
    # Half precision has too few digits for a place in a long table.
    numerator = ((2 * distance + 1) * len(table)).to(torch.promote_types(table.dtype, torch.float32))
    place = (numerator / (2 * finer - 1) - 1) / 2
    place = place.clamp(0, len(table) - 1)
    below, above = table[place.floor().long()], table[place.ceil().long()]
    return below + (above - below) * (place - place.floor())[..., None].to(table.dtype)
