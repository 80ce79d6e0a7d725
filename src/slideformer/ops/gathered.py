# SPDX-License-Identifier: Apache-2.0
"""Attention over gathered neighbours, the part that the paper's three views share.

The views differ only in how they gather the T neighbours of every position (Im2Col, feature shift,
depthwise convolution); the sums that follow are these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from slideformer.ops.call import Call
from slideformer.ops.window import Window


def mix(taps: Tensor, shift_weight: Tensor | None) -> Tensor:
    """Deform gathered neighbours: ``(B, G, D, T, N) -> (B, G, D, T, N)``."""
    return taps if shift_weight is None else torch.einsum("bgdun,dtu->bgdtn", taps, shift_weight)


# Lays out the shifted, deformed neighbours of a map: ``(B, *map, G, D) -> (B, G, D, T, N)``.
Gather = Callable[[Tensor, Call], Tensor]


def attend(call: Call, gather: Gather) -> Tensor:
    """Slide attention over the neighbours that ``gather`` lays out."""
    weights = call.softmax(logits(call, gather))
    return values(replace(call, query=weights), gather)


def logits(call: Call, gather: Gather) -> Tensor:
    """The first half, ``(B, *map, G, T)``."""
    call = call.upcast()
    keys = gather(call.key, call)
    if call.shift_bias is not None:
        keys = keys + call.shift_bias[..., None]
    if call.key_bias is not None:
        keys = keys + call.key_bias[:, None, :, None]
    products = torch.einsum("bngd,bgdtn->bngt", call.query.flatten(1, -3) * call.scale, keys)
    return call.finished(products.unflatten(1, call.map_size))


def values(call: Call, gather: Gather) -> Tensor:
    """The second half, ``(B, *map, G, D)``: the sum of values, whose weights are the call's query."""
    dtype = call.value.dtype
    call = call.upcast()
    found = gather(call.value, call)
    if call.shift_bias is not None:
        found = found + call.shift_bias[..., None]
    output = torch.einsum("bngt,bgdtn->bngd", call.query.flatten(1, -3), found)
    return output.unflatten(1, call.map_size).to(dtype)


def select_starts(taps: Tensor, window: Window, size: Sequence[int]) -> Tensor:
    """Keep the window of every position: ``(X, Y, *map') -> (X, Y, N)``, of one at each padded place."""
    for dim, start in enumerate(window.starts(size, taps.device), start=2):
        if start is not None:
            taps = taps.index_select(dim, start)
    return taps.flatten(2)
