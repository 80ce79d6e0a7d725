# SPDX-License-Identifier: Apache-2.0
"""The slide attention layer: projections around the operator."""

from __future__ import annotations

from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.layers.deformed_shift import SHIFT_INITS, DeformedShift, MergedShift
from slideformer.layers.linear import Linear
from slideformer.layers.map_checks import check_choice, check_heads, check_window_map
from slideformer.ops import checks, slide_attention, slide_attention_values, slide_attention_weights
from slideformer.ops.functional import Borders, Size


class ShiftOptions(TypedDict):
    """The operator's arguments that keys and values share."""

    kernel_size: Size
    dilation: Size
    border: Borders
    key_mask: Tensor | None
    shift_weight: Tensor | None
    shift_bias: Tensor | None


class SlideAttention(nn.Module):
    """Local self-attention through a learned, deformed shift (Pan et al., 2023, section 4).

    Every position attends to its own K x K neighbourhood.

    A map may also have one axis, a sequence, or three, a volume: a tuple as ``kernel_size``, ``dilation`` or
    ``border`` has an entry for each, and without a tuple there are two.

    Args:
        dim: channels C of the map, a multiple of ``num_heads``.
        num_heads: heads G.
        kernel_size: odd side K of each position's window in positions, one for all axes or one an axis.
        dilation: spacing of the window's taps in positions, one for all axes or one an axis.
        border: treatment of positions outside the map, one for all axes or one an axis: ``"zeros"`` (the
            paper), ``"wrap"`` (the axis is periodic), ``"mask"`` or ``"clamp"``; the last two only with
            ``deform=False``.
        deform: whether a learned shift is added to the fixed one; without it this is plain local attention.
        shift_init: how the learned shift begins, ``"uniform"`` (the authors) or ``"zeros"``: see
            `DeformedShift`.
        qkv_bias: whether the projection to query, key and value has a bias.
        attn_drop: dropout of the attention weights, a probability. Above 0 and in training the weights are
            laid out in memory, T numbers a position and head.
        proj_drop: dropout of the output, a probability.
        backend: of the operator, see `slideformer.backends`.

    Shape: ``(B, *map, C) -> (B, *map, C)``, of an image ``(B, H, W, C)``; any size of the map at every call.

    Raises:
        ValueError: ``dim`` is not a multiple of ``num_heads``, ``kernel_size`` is even, tuples are of
            different lengths, ``shift_init`` is unknown, or ``deform`` with ``"mask"`` or ``"clamp"``, or
            with more than 27 taps along one or three axes; on a call, ``x`` is not a map of C channels and of
            the window's axes.

    Example:
        >>> layer = SlideAttention(dim=96, num_heads=3, kernel_size=3)
        >>> layer(torch.randn(1, 56, 40, 96)).shape
        torch.Size([1, 56, 40, 96])
        >>> layer = SlideAttention(dim=96, num_heads=3, kernel_size=(13,), border="wrap")
        >>> layer(torch.randn(1, 1000, 96)).shape
        torch.Size([1, 1000, 96])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        kernel_size: Size = 3,
        *,
        dilation: Size = 1,
        border: Borders = "zeros",
        deform: bool = True,
        shift_init: str = "uniform",
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        check_choice("shift_init", shift_init, SHIFT_INITS)
        window = checks.window(kernel_size, dilation, border)
        if deform and not window.fills:
            raise ValueError(
                f'deform=True needs border="zeros" or "wrap" along every axis, '
                f"got {checks.shown(window.border)}; use deform=False"
            )
        self.dim = dim
        self.num_heads = num_heads
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.border = border
        self.sides = window.kernel_size  # of the window along each axis
        self.backend = backend
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.shift: DeformedShift | MergedShift | None = (
            DeformedShift(dim // num_heads, window.kernel_size, shift_init) if deform else None
        )
        self.key_bias = nn.Parameter(torch.empty(num_heads, window.taps))
        self.attn_drop = attn_drop
        self.proj = Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters of this layer itself."""
        nn.init.trunc_normal_(self.key_bias, std=0.02)

    def forward(self, x: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Attend: ``(B, *map, C) -> (B, *map, C)``.

        Args:
            x: the map.
            key_mask: ``(B, *map)``, bool, True where a position exists. The others are as outside the map,
                and their own output has no meaning. With ``deform``, every border must be ``"zeros"``.
        """
        query, key, value = self.heads(x)
        shift = self.shift_options(key_mask)
        if self.training and self.attn_drop > 0:
            weights = slide_attention_weights(
                query, key, key_bias=self.key_bias, backend=self.backend, **shift
            )
            weights = F.dropout(weights, self.attn_drop)
            out = slide_attention_values(weights, value, backend=self.backend, **shift)
        else:
            out = slide_attention(query, key, value, key_bias=self.key_bias, backend=self.backend, **shift)
        return self.proj_drop(self.proj(out.flatten(-2)))

    def attention_weights(self, x: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Attention weights of each position and tap: ``(B, *map, C) -> (B, *map, G, T)``."""
        query, key, _ = self.heads(x)
        return slide_attention_weights(query, key, key_bias=self.key_bias, **self.shift_options(key_mask))

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
        """Project to query, key and value, views of one tensor: ``(B, *map, C) -> 3 (B, *map, G, D)``."""
        check_window_map(x, self.dim, len(self.sides))
        # As few axes as can be, because some runtimes take 5 at most: the three are split along the heads.
        query, key, value = self.qkv(x).unflatten(-1, (3 * self.num_heads, -1)).chunk(3, dim=-2)
        return query, key, value

    def shift_options(self, key_mask: Tensor | None = None) -> ShiftOptions:
        """Window, mask and merged shift, as the operator's arguments."""
        weight, bias = (None, None) if self.shift is None else self.shift()
        return {
            "kernel_size": self.kernel_size,
            "dilation": self.dilation,
            "border": self.border,
            "key_mask": key_mask,
            "shift_weight": weight,
            "shift_bias": bias,
        }

    def extra_repr(self) -> str:
        """Options, for ``print``."""
        return (
            f"dim={self.dim}, num_heads={self.num_heads}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, border={self.border!r}, backend={self.backend!r}"
        )
