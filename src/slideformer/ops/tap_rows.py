# SPDX-License-Identifier: Apache-2.0
"""Plain local attention to be exported: a row of taps at a time, so that wide windows make short graphs.

A graph of one gather a tap has hundreds of nodes a layer where the window has 49 taps, and exporters take
minutes over it; one gather for all taps would hold T maps of keys and of values. Here it is one a row: the
taps along the last axis.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slideformer.ops.call import Call


class TapRows:
    """Reads the K taps of one row of the window at every position, side by side along the last axis.

    Shapes are those of maps of two axes; W is the last axis.
    """

    def __init__(self, call: Call) -> None:
        size, device, window = call.map_size, call.query.device, call.window
        self.window, self.last = window, len(size)  # the dimension of the last axis
        self.columns = window.kernel_size[-1]
        self.rows = window.taps // self.columns
        starts = window.starts(size, device)
        *self.outer, left = (
            torch.arange(length, device=device) if start is None else start
            for length, start in zip(size, starts, strict=True)
        )
        steps = torch.arange(self.columns, device=device) * window.dilation[-1]
        self.left = (left[:, None] + steps).flatten()  # (W K)
        self.size = (size[-1], self.columns)

    def read(self, padded: Tensor, row: int) -> Tensor:
        """The map at the taps of one row: ``(B, H', W', G, D) -> (B, H, W K, G, D)``."""
        steps = self.window.offset(row * self.columns)
        for dim, place in enumerate(self.outer, start=1):
            padded = padded.index_select(dim, place + steps[dim - 1])
        return padded.index_select(self.last, self.left)

    def repeat(self, x: Tensor) -> Tensor:
        """Each column for each of its taps: ``(B, H, W, G, D) -> (B, H, W K, G, D)``."""
        return x.index_select(self.last, self.number(x) // self.columns)

    def pick(self, weights: Tensor, row: int) -> Tensor:
        """The weights of one row of taps, as `read` lays them out: ``(B, H, W, T, G) -> (B, H, W K, G)``."""
        number = self.number(weights)
        # No flatten, which would require that W and K can be joined for every size of an exported program.
        place = (number // self.columns, row * self.columns + number % self.columns)
        return weights[(slice(None),) * self.last + place]

    def number(self, x: Tensor) -> Tensor:
        """Index of each column and tap: ``(W K)``."""
        return torch.arange(x.shape[self.last] * self.columns, device=x.device)

    def split(self, x: Tensor) -> Tensor:
        """Split columns and taps: ``(B, H, W K, X) -> (B, H, W, K, X)``."""
        return x.unflatten(self.last, self.size)


def attend(call: Call) -> Tensor:
    """Local attention without a shift, by few and ordinary operators."""
    dtype = call.value.dtype
    call = call.upcast()
    taps = TapRows(call)
    by_tap = taps.last + 1  # the dimension of the taps, in front of the heads
    key, value = call.window.pad(call.key), call.window.pad(call.value)
    query = taps.repeat(call.query * call.scale)
    logits = torch.cat(
        [taps.split((query * taps.read(key, row)).sum(-1)) for row in range(taps.rows)], by_tap
    )  # (B, H, W, T, G)
    if call.key_bias is not None:
        logits = logits + (call.query.sum(-1) * call.scale).unsqueeze(by_tap) * call.key_bias.T
    offset = call.tap_offset()
    if offset is not None:
        logits = logits + offset.transpose(-1, -2)
    weights = call.softmax(logits, by_tap)
    rows = [
        # Heads and channels are one axis for the sum: no rank above 5.
        taps.split((taps.pick(weights, row)[..., None] * taps.read(value, row)).flatten(by_tap)).sum(by_tap)
        for row in range(taps.rows)
    ]
    return torch.stack(rows).sum(0).unflatten(-1, value.shape[by_tap:]).to(dtype)
