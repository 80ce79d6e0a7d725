# SPDX-License-Identifier: Apache-2.0
"""The row view (feature shift): each row of the matrix is the map shifted by one tap (paper, 4.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from slideformer.ops import gathered
from slideformer.ops.call import Call


def gather(x: Tensor, call: Call) -> Tensor:
    """Neighbours as T shifted copies of the map: ``(B, *map, G, D) -> (B, G, D, T, N)``."""
    size = call.map_size
    padded = call.window.pad(x)
    starts = call.window.starts(size, x.device)
    copies = [
        call.window.shifted(padded, tap, slice(0, size[0]), starts).flatten(1, -3)
        for tap in range(call.window.taps)
    ]
    taps = torch.stack(copies, dim=-1)  # (B, N, G, D, T)
    return gathered.mix(taps.permute(0, 2, 3, 4, 1), call.shift_weight)


def attend(call: Call) -> Tensor:
    """Slide attention over shifted copies of the map."""
    return gathered.attend(call, gather)


def logits(call: Call) -> Tensor:
    """The first half: ``(B, *map, G, T)``."""
    return gathered.logits(call, gather)


def values(call: Call) -> Tensor:
    """The second half, whose weights are the call's query: ``(B, *map, G, D)``."""
    return gathered.values(call, gather)
