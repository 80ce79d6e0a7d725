# SPDX-License-Identifier: Apache-2.0
"""The paper's form: all shifts are one depthwise convolution, its kernel fixed plus learned (section 4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from slideformer.ops import gathered
from slideformer.ops.call import Call

# By the number of axes of the map.
CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def shift_kernel(call: Call, channels: int, like: Tensor) -> Tensor:
    """Kernel of the merged convolution, one-hot where nothing is deformed: ``(D T, 1, *kernel_size)``."""
    taps = call.window.taps
    weight = call.shift_weight
    if weight is None:
        weight = torch.eye(taps, dtype=like.dtype, device=like.device).expand(channels, taps, taps)
    return weight.reshape(channels * taps, 1, *call.window.kernel_size)


def gather(x: Tensor, call: Call) -> Tensor:
    """Shifted, deformed neighbours by one grouped convolution: ``(B, *map, G, D) -> (B, G, D, T, N)``."""
    batch, *size, heads, channels = x.shape
    padded = call.window.pad(x).movedim((-2, -1), (1, 2)).flatten(0, 1)  # (B G, D, *map')
    kernel = shift_kernel(call, channels, x)
    convolve = CONVOLUTIONS[len(size)]
    taps = convolve(padded, kernel, dilation=call.window.dilation, groups=channels)  # (B G, D T, *map')
    taps = gathered.select_starts(taps, call.window, size)
    return taps.unflatten(0, (batch, heads)).unflatten(2, (channels, call.window.taps))


def attend(call: Call) -> Tensor:
    """Slide attention over the outputs of one depthwise convolution."""
    return gathered.attend(call, gather)
