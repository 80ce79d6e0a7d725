# SPDX-License-Identifier: Apache-2.0
"""Attention of every position to its nearest neighbours, as in the Neighborhood Attention Transformer."""

from __future__ import annotations

from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.layers.linear import Linear
from slideformer.layers.map_checks import check_heads, check_window_map
from slideformer.ops import checks, slide_attention, slide_attention_values, slide_attention_weights
from slideformer.ops.functional import Borders, Size


class WindowOptions(TypedDict):
    """The operator's arguments that say where neighbours are."""

    kernel_size: Size
    dilation: Size
    border: Borders
    key_mask: Tensor | None


class NeighborhoodAttention(nn.Module):
    """Self-attention whose window stays inside the map, with relative position bias (Hassani et al., 2023).

    Every position attends to K x K existing neighbours and is in the middle of them, except near the border,
    where the window stops at the edge of the map. On a map that is smaller than the window it attends to all
    positions; the authors' models pad such a map with zeros instead.

    A map may also have one axis, a sequence, or three, a volume: a tuple as ``kernel_size``, ``dilation`` or
    ``border`` has an entry for each, and without a tuple there are two.

    Args:
        dim: channels C of the map, a multiple of ``num_heads``.
        num_heads: heads G.
        kernel_size: odd side K of each position's window in positions, one for all axes or one an axis.
        dilation: spacing of the window's taps in positions, one for all axes or one an axis.
        border: ``"clamp"`` (the paper), or another of the operator's, as ``"wrap"`` along a periodic axis;
            one for all axes or one an axis.
        qkv_bias: whether the projection to query, key and value has a bias.
        attn_drop: dropout of the attention weights, a probability. Above 0 and in training the weights are
            laid out in memory, T numbers a position and head.
        proj_drop: dropout of the output, a probability.
        backend: of the operator, see `slideformer.backends`.

    Shape: ``(B, *map, C) -> (B, *map, C)``, of an image ``(B, H, W, C)``; any size of the map at every call.

    Raises:
        ValueError: ``dim`` is not a multiple of ``num_heads``, ``kernel_size`` is even, ``dilation`` is less
            than 1, or tuples are of different lengths; on a call, ``x`` is not a map of C channels and of the
            window's axes.

    Example:
        >>> layer = NeighborhoodAttention(dim=96, num_heads=3, kernel_size=7, border=("clamp", "wrap"))
        >>> layer(torch.randn(1, 32, 64, 96)).shape  # a globe: latitude, longitude
        torch.Size([1, 32, 64, 96])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        kernel_size: Size = 7,
        *,
        dilation: Size = 1,
        border: Borders = "clamp",
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        window = checks.window(kernel_size, dilation, border)
        self.dim = dim
        self.num_heads = num_heads
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.border = border
        self.axes = len(window.kernel_size)
        self.backend = backend
        self.attn_drop = attn_drop
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        # Where no axis clamps, a tap is at the same distance from every query: then a bias a tap is all.
        positions = window.table if "clamp" in window.border else (window.taps,)
        self.relative_position_bias_table = nn.Parameter(torch.empty(num_heads, *positions))
        self.proj = Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters of this layer itself."""
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Attend: ``(B, *map, C) -> (B, *map, C)``.

        Args:
            x: the map.
            key_mask: ``(B, *map)``, bool, True where a position exists. The others are as outside the map,
                and their own output has no meaning.
        """
        query, key, value = self.heads(x)
        window, bias = self.window(key_mask), self.relative_position_bias_table
        if self.training and self.attn_drop > 0:
            weights = slide_attention_weights(query, key, logit_bias=bias, backend=self.backend, **window)
            weights = F.dropout(weights, self.attn_drop)
            out = slide_attention_values(weights, value, backend=self.backend, **window)
        else:
            out = slide_attention(query, key, value, logit_bias=bias, backend=self.backend, **window)
        return self.proj_drop(self.proj(out.flatten(-2)))

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project to query, key and value, views of one tensor: ``(B, *map, C) -> 3 (B, *map, G, D)``."""
        check_window_map(x, self.dim, self.axes)
        query, key, value = self.qkv(x).unflatten(-1, (3 * self.num_heads, -1)).chunk(3, dim=-2)
        return query, key, value

    def attention_weights(self, x: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Attention weights of each position and tap: ``(B, *map, C) -> (B, *map, G, T)``."""
        query, key, _ = self.heads(x)
        bias = self.relative_position_bias_table
        return slide_attention_weights(query, key, logit_bias=bias, **self.window(key_mask))

    def window(self, key_mask: Tensor | None = None) -> WindowOptions:
        """Window and mask, as the operator's arguments."""
        return {
            "kernel_size": self.kernel_size,
            "dilation": self.dilation,
            "border": self.border,
            "key_mask": key_mask,
        }

    def extra_repr(self) -> str:
        """Options, for ``print``."""
        return (
            f"dim={self.dim}, num_heads={self.num_heads}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, border={self.border!r}"
        )
