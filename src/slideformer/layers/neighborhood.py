# SPDX-License-Identifier: Apache-2.0
"""Attention of every position to its nearest neighbours, as in the Neighborhood Attention Transformer."""

from __future__ import annotations

from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.layers.linear import Linear
from slideformer.layers.map_checks import check_heads, check_map
from slideformer.ops import checks, slide_attention, slide_attention_values, slide_attention_weights
from slideformer.ops.window import Border


class WindowOptions(TypedDict):
    """The operator's arguments that say where neighbours are."""

    kernel_size: int
    dilation: int
    border: Border


class NeighborhoodAttention(nn.Module):
    """Self-attention whose window stays inside the map, with relative position bias (Hassani et al., 2023).

    Every position attends to K x K existing neighbours and is in the middle of them, except near the border,
    where the window stops at the edge of the map. On a map that is smaller than the window it attends to all
    positions; the authors' models pad such a map with zeros instead.

    Args:
        dim: channels C of the map, a multiple of ``num_heads``.
        num_heads: heads G.
        kernel_size: odd side K of each position's window, in positions.
        dilation: spacing of the window's taps, in positions.
        qkv_bias: whether the projection to query, key and value has a bias.
        attn_drop: dropout of the attention weights, a probability. Above 0 and in training the weights are
            laid out in memory, K * K numbers a position and head, which is slow.
        proj_drop: dropout of the output, a probability.
        backend: of the operator, see `slideformer.backends`.

    Shape: ``(B, H, W, C) -> (B, H, W, C)``, any ``H`` and ``W`` at every call.

    Raises:
        ValueError: ``dim`` is not a multiple of ``num_heads``, ``kernel_size`` is even, or ``dilation`` is
            less than 1; on a call, ``x`` is not a map of C channels.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        kernel_size: int = 7,
        *,
        dilation: int = 1,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        checks.window(kernel_size, dilation, "clamp")
        self.dim = dim
        self.num_heads = num_heads
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.backend = backend
        self.attn_drop = attn_drop
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        side = 2 * kernel_size - 1
        self.relative_position_bias_table = nn.Parameter(torch.empty(num_heads, side, side))
        self.proj = Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters of this layer itself."""
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: ``(B, H, W, C) -> (B, H, W, C)``."""
        query, key, value = self.heads(x)
        window, bias = self.window(), self.relative_position_bias_table
        if self.training and self.attn_drop > 0:
            weights = slide_attention_weights(query, key, logit_bias=bias, **window)
            out = slide_attention_values(F.dropout(weights, self.attn_drop), value, **window)
        else:
            out = slide_attention(query, key, value, logit_bias=bias, backend=self.backend, **window)
        return self.proj_drop(self.proj(out.flatten(3)))

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project to query, key and value, views of one tensor: ``(B, H, W, C) -> 3 (B, H, W, G, D)``."""
        check_map(x, self.dim)
        query, key, value = self.qkv(x).unflatten(-1, (3 * self.num_heads, -1)).chunk(3, dim=3)
        return query, key, value

    def attention_weights(self, x: Tensor) -> Tensor:
        """Attention weights of each position and tap: ``(B, H, W, C) -> (B, H, W, G, T)``, T = K * K."""
        query, key, _ = self.heads(x)
        bias = self.relative_position_bias_table
        return slide_attention_weights(query, key, logit_bias=bias, **self.window())

    def window(self) -> WindowOptions:
        """The window, as the operator's arguments; it slides inward where it would leave the map."""
        return {"kernel_size": self.kernel_size, "dilation": self.dilation, "border": "clamp"}

    def extra_repr(self) -> str:
        """Options, for ``print``."""
        return (
            f"dim={self.dim}, num_heads={self.num_heads}, "
            f"kernel_size={self.kernel_size}, dilation={self.dilation}"
        )
