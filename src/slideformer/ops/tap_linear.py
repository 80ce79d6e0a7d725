# SPDX-License-Identifier: Apache-2.0
"""Slide attention to be exported: a linear layer a tap, its weights constants of the graph.

The sums are those of `tiles`; channels and taps are last, the layout of linear layers in every runtime, and
nothing is transposed or written in place.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from slideformer.ops.call import Call


def attend(call: Call) -> Tensor:
    """Attention through a deformed shift, by few and ordinary operators."""
    dtype = call.value.dtype
    call = call.upcast()
    assert call.shift_weight is not None  # without one there is `tap_rows`
    by_tap = [weight.squeeze(2) for weight in call.shift_weight.split(1, dim=2)]  # T of (D, T)
    query = call.query * call.scale
    logits = sum_of(
        [F.linear(query * seen, w.T) for seen, w in zip(taps(call, call.key), by_tap, strict=True)]
    )
    if call.shift_bias is not None:
        logits = logits + F.linear(query, call.shift_bias.T)
    if call.key_bias is not None:
        logits = logits + query.sum(-1, keepdim=True) * call.key_bias
    offset = call.tap_offset()
    weights = (logits if offset is None else logits + offset).softmax(-1)  # (B, *map, G, T)
    out = sum_of(
        [F.linear(weights, w) * seen for seen, w in zip(taps(call, call.value), by_tap, strict=True)]
    )
    if call.shift_bias is not None:
        out = out + F.linear(weights, call.shift_bias)
    return out.to(dtype)


def taps(call: Call, x: Tensor) -> list[Tensor]:
    """A map seen through each tap: T of ``(B, *map, G, D)``."""
    padded = call.window.pad(x)
    # From the padded map: the exporter of TorchScript takes the size of a view for a constant.
    rows = slice(0, padded.shape[1] - (call.window.kernel_size[0] - 1) * call.window.dilation[0])
    starts = (None,) * len(call.map_size)  # no window slides where there is a shift
    return [call.window.shifted(padded, tap, rows, starts) for tap in range(call.window.taps)]


def sum_of(parts: list[Tensor]) -> Tensor:
    """The sum of tensors, in order."""
    total, *others = parts
    for part in others:
        total = total + part
    return total
