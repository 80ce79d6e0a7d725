# SPDX-License-Identifier: Apache-2.0
"""Plain local attention to be exported: a row of taps at a time, so that wide windows make short graphs.

A graph of one gather a tap has hundreds of nodes a layer where the window has 49 taps, and exporters take
minutes over it; one gather for all taps would hold T maps of keys and of values. Here it is K gathers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slideformer.ops.call import Call


class TapRows:
    """Reads the K taps of one row of the window at every position, side by side along the columns."""

    def __init__(self, call: Call) -> None:
        height, width = call.map_size
        device = call.query.device
        self.rows, self.columns = call.window.kernel_size
        self.size = (width, self.columns)
        self.spacing, spacing = call.window.dilation
        starts = call.window.starts(height, width, device)
        self.top, left = (
            (torch.arange(size, device=device) for size in call.map_size) if starts is None else starts
        )
        self.left = (left[:, None] + torch.arange(self.columns, device=device) * spacing).flatten()  # (W K)

    def read(self, padded: Tensor, row: int) -> Tensor:
        """The map at the taps of one row: ``(B, H', W', G, D) -> (B, H, W K, G, D)``."""
        return padded.index_select(1, self.top + row * self.spacing).index_select(2, self.left)

    def repeat(self, x: Tensor) -> Tensor:
        """Each column for each of its taps: ``(B, H, W, G, D) -> (B, H, W K, G, D)``."""
        return x.index_select(2, self.number(x) // self.columns)

    def pick(self, weights: Tensor, row: int) -> Tensor:
        """The weights of one row of taps, as `read` lays them out: ``(B, H, W, T, G) -> (B, H, W K, G)``."""
        number = self.number(weights)
        # No flatten, which would require that W and K can be joined for every size of an exported program.
        return weights[:, :, number // self.columns, row * self.columns + number % self.columns]

    def number(self, x: Tensor) -> Tensor:
        """Index of each column and tap: ``(W K)``."""
        return torch.arange(x.shape[2] * self.columns, device=x.device)

    def split(self, x: Tensor) -> Tensor:
        """Split columns and taps: ``(B, H, W K, X) -> (B, H, W, K, X)``."""
        return x.unflatten(2, self.size)


def attend(call: Call) -> Tensor:
    """Local attention without a shift, by few and ordinary operators."""
    dtype = call.value.dtype
    call = call.upcast()
    taps = TapRows(call)
    key, value = call.window.pad(call.key), call.window.pad(call.value)
    query = taps.repeat(call.query * call.scale)
    logits = torch.cat(
        [taps.split((query * taps.read(key, row)).sum(-1)) for row in range(taps.rows)], 3
    )  # (B, H, W, T, G)
    if call.key_bias is not None:
        logits = logits + (call.query.sum(-1) * call.scale)[:, :, :, None] * call.key_bias.T
    offset = call.logit_offset()
    if offset is not None:
        logits = logits + offset.transpose(-1, -2)
    weights = logits.softmax(3)
    rows = [
        # Heads and channels are one axis for the sum: no rank above 5.
        taps.split((taps.pick(weights, row)[..., None] * taps.read(value, row)).flatten(3)).sum(3)
        for row in range(taps.rows)
    ]
    return torch.stack(rows).sum(0).unflatten(-1, value.shape[3:]).to(dtype)
