# SPDX-License-Identifier: Apache-2.0
"""Attention in a cross of horizontal and vertical stripes, as in the CSWin Transformer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.layers.channels_first import channels_first
from slideformer.layers.dot_product import dot_product_attention
from slideformer.layers.linear import Linear
from slideformer.layers.map_checks import check_heads, check_map
from slideformer.layers.open_size import open_size

# Weight and bias of a depthwise convolution.
Kernel = tuple[Tensor, Tensor | None]


class CrossWindowAttention(nn.Module):
    """Half of the heads attend inside vertical stripes, half inside horizontal ones (Dong et al., 2022).

    Stripes tile the map and are as long as it is. Position comes from a 3 x 3 depthwise convolution of the
    values, added to what attention gives (LePE); it sees each stripe by itself, with zeros around it.

    Where the map is not a multiple of the stripe, the last stripe is narrower: this implementation pads it
    with positions that no query attends to and that are zeros to the convolution. The authors' classifier
    rejects such a map; their backbone for segmentation pads queries, keys and values with zeros, half on
    either side, and every query of a stripe attends to its zeros.

    Args:
        dim: channels C of the map, a multiple of ``num_heads``.
        num_heads: heads G, an even number unless there is but one stripe.
        stripe_width: width of a stripe, in positions; None for one that is all of the map.
        qkv_bias: whether the projection to query, key and value has a bias.
        attn_drop: dropout of the attention weights, a probability.
        proj_drop: dropout of the output, a probability.

    Shape: ``(B, H, W, C) -> (B, H, W, C)``, any ``H`` and ``W`` at every call.

    Raises:
        ValueError: ``dim`` is not a multiple of ``num_heads``, heads cannot be halved, or ``stripe_width``
            is less than 1; on a call, ``x`` is not a map of C channels.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        stripe_width: int | None = 7,
        *,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        if stripe_width is not None and stripe_width < 1:
            raise ValueError(
                f"stripe_width must be at least 1, got {stripe_width}; use None for all of the map"
            )
        if stripe_width is not None and num_heads % 2:
            raise ValueError(
                f"num_heads must be even, half of them for each direction, got {num_heads}; "
                "use stripe_width=None for all of the map"
            )
        self.dim = dim
        self.num_heads = num_heads
        self.stripe_width = stripe_width
        self.attn_drop = attn_drop
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        directions = 1 if stripe_width is None else 2
        channels = dim // directions
        self.lepe = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels) for _ in range(directions)
        )
        self.proj = Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: ``(B, H, W, C) -> (B, H, W, C)``."""
        check_map(x, self.dim)
        parts = self.qkv(x).chunk(3 * len(self.lepe), dim=-1)
        if self.stripe_width is None:
            out = self.attend(parts, kernel(self.lepe[0]))
        else:
            attend = self.attend_any_size if open_size(*x.shape[1:3]) else self.attend_in_stripes
            # A vertical stripe is a horizontal one of the transposed map, and so is its convolution.
            weight, bias = kernel(self.lepe[0])
            turned = [part.transpose(1, 2) for part in parts[0::2]]
            columns = attend(turned, self.stripe_width, (weight.transpose(2, 3), bias)).transpose(1, 2)
            rows = attend(parts[1::2], self.stripe_width, kernel(self.lepe[1]))
            out = torch.cat([columns, rows], dim=-1)
        return self.proj_drop(self.proj(out))

    def attend(self, parts: Sequence[Tensor], lepe: Kernel, seen: Tensor | None = None) -> Tensor:
        """Attend inside each map where ``seen`` allows: ``3 (M, H, W, C') -> (M, H, W, C')``."""
        query, key, value = (
            self.heads(part).flatten(1, 2).transpose(1, 2) for part in parts
        )  # (M, G', N, D)
        dropout = self.attn_drop if self.training else 0.0
        out = dot_product_attention(query, key, value, mask=seen, dropout=dropout)
        return out.transpose(1, 2).reshape(parts[2].shape) + convolve(parts[2], lepe)

    def attend_in_stripes(self, parts: Sequence[Tensor], thickness: int, lepe: Kernel) -> Tensor:
        """Attend inside stripes of ``thickness`` rows: ``3 (B, H, W, C') -> (B, H, W, C')``."""
        batch, height, width, channels = parts[0].shape
        missing = -height % thickness
        # Every size is given, because an empty batch leaves none to infer.
        count = (height + missing) // thickness
        seen = None
        if missing:
            parts = [F.pad(part, (0, 0, 0, 0, 0, missing)) for part in parts]
            row = torch.arange(height + missing, device=parts[0].device)
            seen = (row < height).reshape(-1, thickness).repeat(batch, 1)  # (B M, rows)
            seen = seen.repeat_interleave(width, 1)[:, None, None]
        stripes = [
            part.reshape(batch * count, thickness, width, channels) for part in parts
        ]  # (B M, rows, W, C')
        out = self.attend(stripes, lepe, seen)
        return out.reshape(batch, height + missing, width, channels)[:, :height]

    def attend_any_size(self, parts: Sequence[Tensor], thickness: int, lepe: Kernel) -> Tensor:
        """`attend_in_stripes` as a program that holds for every H and W, to be exported."""
        # A row of zeros below the map, for positions outside it to read.
        parts = [F.pad(part, (0, 0, 0, 0, 0, 1)) for part in parts]
        heads = [self.heads(part) for part in parts]
        stripes = Stripes(heads[0], thickness)
        row, column, head = stripes.sources()
        query, key, value = (x[:, row, column, head] for x in heads)  # (B, M G', N, D)
        out = dot_product_attention(query, key, value, mask=stripes.seen()[None, :, None])
        number, position = stripes.targets()
        out = out[:, number, position].flatten(3)
        # A row of zeros after every stripe lets one convolution see each by itself.
        before, after = stripes.spaced_rows()
        return out + convolve(parts[2].index_select(1, before), lepe).index_select(1, after)

    def heads(self, x: Tensor) -> Tensor:
        """Split the channels into heads: ``(B, H, W, C') -> (B, H, W, G', D)``."""
        return x.unflatten(-1, (-1, self.dim // self.num_heads))

    def extra_repr(self) -> str:
        """Options, for ``print``."""
        return f"dim={self.dim}, num_heads={self.num_heads}, stripe_width={self.stripe_width}"


def kernel(convolution: nn.Module) -> Kernel:
    """Weight ``(C, 1, 3, 3)`` and bias ``(C)`` of a depthwise convolution."""
    assert isinstance(convolution, nn.Conv2d)
    return convolution.weight, convolution.bias


def convolve(x: Tensor, kernel: Kernel) -> Tensor:
    """Depthwise convolution of a map, with zeros around it: ``(B, H, W, C) -> (B, H, W, C)``."""
    weight, bias = kernel
    return F.conv2d(channels_first(x), weight, bias, padding=1, groups=weight.shape[0]).permute(0, 2, 3, 1)


class Stripes:
    """The source of each position of each stripe, as index arithmetic in tensors.

    An exported program may not depend on the size of its example, not even on whether one stripe covers
    the map. So no axis here counts only stripes, of which there may be one: stripes and heads share one.

    Args:
        x: a map by heads with one row below it, ``(B, H + 1, W, G, D)``; only its size counts.
        thickness: rows of a stripe. M stripes tile the map, each of N positions.
    """

    def __init__(self, x: Tensor, thickness: int) -> None:
        self.thickness = thickness
        self.device = x.device
        self.rows, self.columns, self.heads = x.shape[1] - 1, x.shape[2], x.shape[3]
        # Rounded up with positive numbers alone: ONNX rounds a negative quotient towards zero.
        self.count = (self.rows + thickness - 1) // thickness
        # As tensors, so that the arithmetic is done when the program runs.
        self.height = torch.full((), self.rows, device=x.device)
        self.width = torch.full((), self.columns, device=x.device)

    def numbers(self) -> tuple[Tensor, Tensor]:
        """Number of each stripe and head, ``(M G, 1)``, and of each position in a stripe, ``(N)``."""
        # With one head they would count only stripes, so there is one more, an empty one.
        stripes = self.count + 1 if self.heads == 1 else self.count
        number = torch.arange(stripes * self.heads, device=self.device)[:, None]
        return number, torch.arange(self.thickness * self.columns, device=self.device)

    def sources(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column and head that each position of each stripe and head reads, to make ``(M G, N)``."""
        number, position = self.numbers()
        row = number // self.heads * self.thickness + position // self.width
        return torch.minimum(row, self.height), position % self.width, number % self.heads

    def seen(self) -> Tensor:
        """Whether queries see each position of each stripe and head: ``(M G, N)``."""
        number, position = self.numbers()
        row = number // self.heads * self.thickness + position // self.width
        # The first row always: a softmax over an empty stripe would not be a number.
        return (row < self.height) | (position < self.width)

    def targets(self) -> tuple[Tensor, Tensor]:
        """Stripe and head, and position there, of each place and head of the map, to make ``(H, W, G)``."""
        row = torch.arange(self.rows, device=self.device)[:, None, None]
        column = torch.arange(self.columns, device=self.device)[:, None]
        number = row // self.thickness * self.heads + torch.arange(self.heads, device=self.device)
        return number, row % self.thickness * self.width + column

    def spaced_rows(self) -> tuple[Tensor, Tensor]:
        """The map's rows with an empty one, H, after each stripe; and the place of each row among them."""
        number = torch.arange(self.count * (self.thickness + 1), device=self.device)
        within = number % (self.thickness + 1)
        row = number // (self.thickness + 1) * self.thickness + within
        place = torch.arange(self.rows, device=self.device)
        inside = (within < self.thickness) & (row < self.height)
        return torch.where(inside, row, self.height), place + place // self.thickness
