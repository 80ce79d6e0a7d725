# SPDX-License-Identifier: Apache-2.0
"""The slide attention layer: projections around the operator."""

from __future__ import annotations

from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.layers.deformed_shift import DeformedShift, MergedShift
from slideformer.layers.linear import Linear
from slideformer.layers.map_checks import check_heads, check_map
from slideformer.ops import checks, slide_attention, slide_attention_values, slide_attention_weights
from slideformer.ops.window import Border


class ShiftOptions(TypedDict):
    """The operator's arguments that keys and values share."""

    kernel_size: int
    dilation: int
    border: Border
    shift_weight: Tensor | None
    shift_bias: Tensor | None


class SlideAttention(nn.Module):
    """Local self-attention through a learned, deformed shift (Pan et al., 2023, section 4).

    Every position attends to its own K x K neighbourhood.

    Args:
        dim: channels C of the map, a multiple of ``num_heads``.
        num_heads: heads G.
        kernel_size: odd side K of each position's window, in positions.
        dilation: spacing of the window's taps, in positions.
        border: treatment of positions outside the map: ``"zeros"`` (the paper), ``"mask"`` or ``"clamp"``;
            the last two only with ``deform=False``.
        deform: whether a learned shift is added to the fixed one; without it this is plain local attention.
        qkv_bias: whether the projection to query, key and value has a bias.
        attn_drop: dropout of the attention weights, a probability. Above 0 and in training the weights are
            laid out in memory, T numbers a position and head.
        proj_drop: dropout of the output, a probability.
        backend: of the operator, see `slideformer.backends`.

    Shape: ``(B, H, W, C) -> (B, H, W, C)``, any ``H`` and ``W`` at every call.

    Raises:
        ValueError: ``dim`` is not a multiple of ``num_heads``, ``kernel_size`` is even, or ``deform`` with
            another border than zeros.

    Example:
        >>> layer = SlideAttention(dim=96, num_heads=3, kernel_size=3)
        >>> layer(torch.randn(1, 56, 40, 96)).shape
        torch.Size([1, 56, 40, 96])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        kernel_size: int = 3,
        *,
        dilation: int = 1,
        border: Border = "zeros",
        deform: bool = True,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        if deform and border != "zeros":
            raise ValueError(f'deform=True needs border="zeros", got {border!r}; use deform=False')
        window = checks.window(kernel_size, dilation, border)
        self.dim = dim
        self.num_heads = num_heads
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.border: Border = border
        self.backend = backend
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.shift: DeformedShift | MergedShift | None = (
            DeformedShift(dim // num_heads, kernel_size) if deform else None
        )
        self.key_bias = nn.Parameter(torch.empty(num_heads, window.taps))
        self.attn_drop = attn_drop
        self.proj = Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters of this layer itself."""
        nn.init.trunc_normal_(self.key_bias, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: ``(B, H, W, C) -> (B, H, W, C)``."""
        query, key, value = self.heads(x)
        shift = self.shift_options()
        if self.training and self.attn_drop > 0:
            weights = slide_attention_weights(query, key, key_bias=self.key_bias, **shift)
            out = slide_attention_values(F.dropout(weights, self.attn_drop), value, **shift)
        else:
            out = slide_attention(query, key, value, key_bias=self.key_bias, backend=self.backend, **shift)
        return self.proj_drop(self.proj(out.flatten(3)))

    def attention_weights(self, x: Tensor) -> Tensor:
        """Attention weights of each position and tap: ``(B, H, W, C) -> (B, H, W, G, T)``."""
        query, key, _ = self.heads(x)
        return slide_attention_weights(query, key, key_bias=self.key_bias, **self.shift_options())

    @torch.no_grad()
    def reparameterize(self) -> None:
        """Merge the learned shift into the fixed one (paper, section 4.3): same function, one stored kernel.

        Raises:
            RuntimeError: the layer is in training mode, where the learned part must stay separate.
        """
        if self.training:
            raise RuntimeError(
                "reparameterize() needs a layer in evaluation mode, got training mode; call .eval() first"
            )
        if isinstance(self.shift, DeformedShift):
            self.shift = self.shift.merge()

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project to query, key and value, views of one tensor: ``(B, H, W, C) -> 3 (B, H, W, G, D)``."""
        check_map(x, self.dim)
        # Rank 5 at most, because some runtimes take no more: the three are split along the heads.
        query, key, value = self.qkv(x).unflatten(-1, (3 * self.num_heads, -1)).chunk(3, dim=3)
        return query, key, value

    def shift_options(self) -> ShiftOptions:
        """Window and merged shift, as the operator's arguments."""
        weight, bias = (None, None) if self.shift is None else self.shift()
        return {
            "kernel_size": self.kernel_size,
            "dilation": self.dilation,
            "border": self.border,
            "shift_weight": weight,
            "shift_bias": bias,
        }

    def extra_repr(self) -> str:
        """Options, for ``print``."""
        return (
            f"dim={self.dim}, num_heads={self.num_heads}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, border={self.border!r}, backend={self.backend!r}"
        )
