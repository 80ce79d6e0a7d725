# SPDX-License-Identifier: Apache-2.0
"""The column view (Im2Col): each column of the matrix is one position's window (paper, 4.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from slideformer.ops import gathered
from slideformer.ops.call import Call


def refusal(call: Call) -> str | None:
    """The reason why it cannot take a call, as a sentence, or None."""
    count = len(call.map_size)
    return f"F.unfold takes maps of one or two axes, got {count}" if count > 2 else None


def gather(x: Tensor, call: Call) -> Tensor:
    """Neighbours by ``F.unfold``: ``(B, *map, G, D) -> (B, G, D, T, N)``."""
    heads, channels = x.shape[-2:]
    window, padded = call.window, call.window.pad(x).flatten(-2).movedim(-1, 1)  # (B, C, *map')
    one = padded.ndim == 3
    if one:  # an image of one row
        padded = padded.unsqueeze(2)
    kernel_size, dilation = (1,) * one + window.kernel_size, (1,) * one + window.dilation
    columns = F.unfold(padded, kernel_size, dilation=dilation)  # (B, C T, N')
    rows = zip(padded.shape[2:], kernel_size, dilation, strict=True)
    size = [length - (side - 1) * step for length, side, step in rows]
    taps = gathered.select_starts(columns.unflatten(2, size[one:]), window, call.map_size)
    return gathered.mix(taps.unflatten(1, (heads, channels, window.taps)), call.shift_weight)


def attend(call: Call) -> Tensor:
    """Slide attention over Im2Col columns."""
    return gathered.attend(call, gather)
