# SPDX-License-Identifier: Apache-2.0
"""The column view (Im2Col): each column of the matrix is one position's window (paper, 4.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from slideformer.ops import gathered
from slideformer.ops.call import Call


def gather(x: Tensor, call: Call) -> Tensor:
    """Neighbours by ``F.unfold``: ``(B, H, W, G, D) -> (B, G, D, T, N)``."""
    heads, channels = x.shape[3:]
    padded = call.window.pad(x)
    size = [padded.shape[1 + i] - (call.window.kernel_size[i] - 1) * call.window.dilation[i] for i in (0, 1)]
    columns = F.unfold(
        padded.flatten(3).permute(0, 3, 1, 2), call.window.kernel_size, dilation=call.window.dilation
    )  # (B, C T, N')
    taps = gathered.select_starts(columns.unflatten(2, size), call.window, *call.map_size)
    return gathered.mix(taps.unflatten(1, (heads, channels, call.window.taps)), call.shift_weight)


def attend(call: Call) -> Tensor:
    """Slide attention over Im2Col columns."""
    return gathered.attend(call, gather)
