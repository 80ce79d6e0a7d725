# SPDX-License-Identifier: Apache-2.0
"""Other forms of local attention: the paper's convolutions, and Im2Col."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.layers.deformed_shift import DeformedShift
from slideformer.layers.slide_attention import SlideAttention


def fixed_shift(channels: int, kernel_size: int) -> Tensor:
    """The kernel of a convolution that shifts by every tap: ``(D T, 1, K, K)``."""
    taps = kernel_size**2
    return torch.eye(taps).reshape(taps, 1, kernel_size, kernel_size).repeat(channels, 1, 1, 1)


def images(x: Tensor) -> Tensor:
    """Heads as batch, channels first: ``(B, H, W, G, D) -> (B G, D, H, W)``."""
    return x.permute(0, 3, 4, 1, 2).flatten(0, 1)


def by_convolution(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    kernels: Sequence[Tensor],
    *,
    shift_bias: Tensor | None = None,
    key_bias: Tensor | None = None,
) -> Tensor:
    """Local attention in the paper's form: depthwise convolutions shift maps, then attention is elementwise.

    Args:
        query: ``(B, H, W, G, D)``.
        key: like the query.
        value: like the query.
        kernels: ``(D T, 1, K, K)`` each, two in training or the merged one; their outputs are added.
        shift_bias: ``(D T)``, of the last convolution.
        key_bias: ``(G, T)``, added to every channel of the shifted keys.
    """
    batch, height, width, heads, channels = query.shape
    side = kernels[0].shape[-1]
    taps = side * side

    def shifted(x: Tensor) -> Tensor:
        x, last = images(x), len(kernels) - 1
        copies = [
            F.conv2d(x, kernel, shift_bias if i == last else None, padding=side // 2, groups=channels)
            for i, kernel in enumerate(kernels)
        ]
        total = copies[0] if len(copies) == 1 else copies[0] + copies[1]
        return total.reshape(batch, heads, channels, taps, height, width)

    keys = shifted(key)
    if key_bias is not None:
        keys = keys + key_bias.reshape(1, heads, 1, taps, 1, 1)
    queries = (images(query) * channels**-0.5).reshape(batch, heads, channels, 1, height, width)
    weights = (queries * keys).sum(2, keepdim=True).softmax(3)
    return (weights * shifted(value)).sum(3).permute(0, 3, 4, 1, 2)


def by_unfold(query: Tensor, key: Tensor, value: Tensor, kernel_size: int) -> Tensor:
    """Plain local attention by ``F.unfold`` (Im2Col), as it is commonly written: ``(B, H, W, G, D)``."""
    batch, height, width, heads, channels = query.shape

    def columns(x: Tensor) -> Tensor:
        maps = x.permute(0, 3, 4, 1, 2).reshape(batch, heads * channels, height, width)
        unfolded = F.unfold(maps, kernel_size, padding=kernel_size // 2)
        return unfolded.reshape(batch, heads, channels, kernel_size**2, height * width)

    queries = query.permute(0, 3, 4, 1, 2).reshape(batch, heads, channels, 1, height * width)
    weights = (queries * channels**-0.5 * columns(key)).sum(2, keepdim=True).softmax(3)
    mixed = (weights * columns(value)).sum(3)
    return mixed.reshape(batch, heads, channels, height, width).permute(0, 3, 4, 1, 2)


class ConvolutionAttention(nn.Module):
    """A slide attention layer in the paper's form, with the weights of one of ours.

    Args:
        layer: not merged; its parameters are shared.
        merged: whether the two convolutions are one.
    """

    def __init__(self, layer: SlideAttention, *, merged: bool) -> None:
        super().__init__()
        self.layer, self.merged = layer, merged
        assert isinstance(layer.shift, DeformedShift)
        fixed = fixed_shift(layer.dim // layer.num_heads, layer.sides[0])
        self.register_buffer("fixed", fixed)
        self.fixed: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Attend: ``(B, H, W, C) -> (B, H, W, C)``."""
        layer = self.layer
        assert isinstance(layer.shift, DeformedShift)
        learned = layer.shift.weight.reshape(self.fixed.shape)
        kernels = [self.fixed + learned] if self.merged else [self.fixed.to(learned.dtype), learned]
        query, key, value = layer.heads(x)
        bias = layer.shift.bias.flatten()
        out = by_convolution(query, key, value, kernels, shift_bias=bias, key_bias=layer.key_bias)
        return layer.proj_drop(layer.proj(out.flatten(3)))


class UnfoldAttention(nn.Module):
    """Plain local attention by Im2Col, with the projections of one of our layers."""

    def __init__(self, layer: SlideAttention) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Attend: ``(B, H, W, C) -> (B, H, W, C)``."""
        layer = self.layer
        out = by_unfold(*layer.heads(x), layer.sides[0])
        return layer.proj_drop(layer.proj(out.flatten(3)))


def to_convolutions(model: nn.Module) -> nn.Module:
    """Replace a model's slide attention layers, in place, by the paper's form; return the model."""
    for name, child in model.named_children():
        if isinstance(child, SlideAttention):
            setattr(model, name, ConvolutionAttention(child, merged=False))
        else:
            to_convolutions(child)
    return model
