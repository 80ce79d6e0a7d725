# SPDX-License-Identifier: Apache-2.0
"""Attention over gathered neighbours, the part that the paper's three views share.

The views differ only in how they gather the T neighbours of every position (Im2Col, feature shift,
depthwise convolution); the sums that follow are these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from slideformer.ops.call import Call
from slideformer.ops.window import Window


def mix(taps: Tensor, shift_weight: Tensor | None) -> Tensor:
    """Deform gathered neighbours: ``(B, G, D, T, N) -> (B, G, D, T, N)``."""
    return taps if shift_weight is None else torch.einsum("bgdun,dtu->bgdtn", taps, shift_weight)


def attend(call: Call, gather: Callable[[Tensor, Call], Tensor]) -> Tensor:
    """Slide attention over the neighbours that ``gather`` lays out.

    Args:
        call: the checked arguments.
        gather: gives the shifted, deformed neighbours of a map: ``(B, *map, G, D) -> (B, G, D, T, N)``.
    """
    dtype, size = call.value.dtype, call.map_size
    call = call.upcast()
    keys, values = gather(call.key, call), gather(call.value, call)
    if call.shift_bias is not None:
        keys, values = keys + call.shift_bias[..., None], values + call.shift_bias[..., None]
    if call.key_bias is not None:
        keys = keys + call.key_bias[:, None, :, None]
    logits = torch.einsum("bngd,bgdtn->bngt", call.query.flatten(1, -3) * call.scale, keys)
    offset = call.logit_offset()
    if offset is not None:
        logits = logits + offset.expand(-1, *size, -1, -1).flatten(1, -3)
    output = torch.einsum("bngt,bgdtn->bngd", logits.softmax(-1), values)
    return output.unflatten(1, size).to(dtype)


def select_starts(taps: Tensor, window: Window, size: Sequence[int]) -> Tensor:
    """Keep the window of every position: ``(X, Y, *map') -> (X, Y, N)``, of one at each padded place."""
    for dim, start in enumerate(window.starts(size, taps.device), start=2):
        if start is not None:
            taps = taps.index_select(dim, start)
    return taps.flatten(2)
