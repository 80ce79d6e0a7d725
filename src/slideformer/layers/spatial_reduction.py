# SPDX-License-Identifier: Apache-2.0
"""Attention to a smaller copy of the map, as in the Pyramid Vision Transformer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.layers.channels_first import channels_first
from slideformer.layers.dot_product import dot_product_attention
from slideformer.layers.linear import Linear
from slideformer.layers.map_checks import check_heads, check_map


class SpatialReductionAttention(nn.Module):
    """Every position attends to all of the map, whose keys and values a strided convolution reduces.

    Spatial-reduction attention of PVT (Wang et al., 2021) and PVTv2: the convolution's kernel
    is as wide as its stride R, so that each key stands for R x R positions, and a layer norm follows it. As
    in both, rows and columns that do not fill an R x R square have no key. A side shorter than R, which
    would leave no key at all, is first padded with zeros to R. A program by ``torch.export`` holds for sides
    of 2 R positions and more: PyTorch takes no dynamic axis whose size may be 1.

    Args:
        dim: channels C of the map, a multiple of ``num_heads``.
        num_heads: heads G.
        reduction: R, positions a side that one key stands for; 1 for plain global attention.
        qkv_bias: whether the projections to query, key and value have a bias.
        attn_drop: dropout of the attention weights, a probability.
        proj_drop: dropout of the output, a probability.

    Shape: ``(B, H, W, C) -> (B, H, W, C)``, any ``H`` and ``W`` at every call.

    Raises:
        ValueError: ``dim`` is not a multiple of ``num_heads``, or ``reduction`` is less than 1; on a call,
            ``x`` is not a map of C channels.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        reduction: int = 1,
        *,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        if reduction < 1:
            raise ValueError(f"reduction must be at least 1, got {reduction}")
        self.dim = dim
        self.num_heads = num_heads
        self.reduction = reduction
        self.attn_drop = attn_drop
        self.query = Linear(dim, dim, bias=qkv_bias)
        self.key_value = Linear(dim, 2 * dim, bias=qkv_bias)
        if reduction > 1:
            self.reduce = nn.Conv2d(dim, dim, reduction, reduction)
            self.norm = nn.LayerNorm(dim)
        self.proj = Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: ``(B, H, W, C) -> (B, H, W, C)``."""
        check_map(x, self.dim)
        query = self.query(x.flatten(1, 2)).unflatten(-1, (self.num_heads, -1))  # (B, N, G, D)
        key, value = self.key_value(self.reduced(x)).unflatten(-1, (2 * self.num_heads, -1)).chunk(2, dim=2)
        out = dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            dropout=self.attn_drop if self.training else 0.0,
        )
        return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2).unflatten(1, x.shape[1:3])))

    def reduced(self, x: Tensor) -> Tensor:
        """The smaller map, of M positions, that keys and values are projected from: ``-> (B, M, C)``."""
        if self.reduction == 1:
            return x.flatten(1, 2)
        height, width = x.shape[1:3]
        if height < self.reduction or width < self.reduction:
            missing = (max(self.reduction - size, 0) for size in (width, height))
            x = F.pad(x, (0, 0, *(pad for side in missing for pad in (0, side))))
        return self.norm(self.reduce(channels_first(x)).permute(0, 2, 3, 1).flatten(1, 2))

    def extra_repr(self) -> str:
        """Options, for ``print``."""
        return f"dim={self.dim}, num_heads={self.num_heads}, reduction={self.reduction}"
