# SPDX-License-Identifier: Apache-2.0
"""The definition of slide attention: the plain formula, in any dtype, without optimisation.

A backend is right when its values and gradients agree with this file. A map has one to three axes; N are all
of its positions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from slideformer.ops.call import Call
from slideformer.ops.window import Window


def neighbours(x: Tensor, window: Window) -> Tensor:
    """The map at each tap, zero outside the map: ``(B, *map, G, D) -> (B, N, T, G, D)``."""
    axes = window.axes(x.shape[1:-2])
    for place, axis in enumerate(axes):
        dim = 1 + 2 * place  # behind the positions and taps of the axes before
        # Zeros wide enough for every tap on both sides, so that an index is never negative.
        padded = F.pad(x, (*(0, 0) * (x.ndim - 1 - dim), axis.span, axis.span))
        sources = axis.sources(x.device) + axis.span
        x = padded.index_select(dim, sources.flatten()).unflatten(dim, sources.shape)
    count = len(axes)  # (B, rows, K, columns, K, G, D) to (B, rows, columns, K, K, G, D)
    x = x.movedim(tuple(range(1, 2 * count, 2)), tuple(range(1, count + 1)))
    return x.flatten(count + 1, 2 * count).flatten(1, count)


def deform(taps: Tensor, call: Call) -> Tensor:
    """Mix the taps by the learned shift: ``K'_t = sum_u W[c, t, u] K_u + b[c, t]`` (paper, section 4.2)."""
    if call.shift_weight is not None:
        taps = torch.einsum("bnugd,dtu->bntgd", taps, call.shift_weight)
    if call.shift_bias is not None:
        taps = taps + call.shift_bias.T[:, None, :]
    return taps


def attention_logits(call: Call) -> Tensor:
    """The logits, minus infinity at taps that are left out: ``(B, *map, G, T)``."""
    call = call.upcast()
    keys = deform(neighbours(call.key, call.window), call)
    if call.key_bias is not None:
        keys = keys + call.key_bias.T[:, :, None]
    query = call.query.flatten(1, -3)
    logits = call.scale * torch.einsum("bngd,bntgd->bngt", query, keys).unflatten(1, call.map_size)
    offset = call.logit_offset()
    return logits if offset is None else logits + offset


def attention_weights(call: Call) -> Tensor:
    """Softmax of the logits over the taps: ``(B, *map, G, T)``."""
    return attention_logits(call).softmax(-1)


def weighted_values(weights: Tensor, call: Call) -> Tensor:
    """Sum of the shifted values, weighted: ``(B, *map, G, T) -> (B, *map, G, D)``."""
    dtype = call.value.dtype
    call = call.upcast()
    values = deform(neighbours(call.value, call.window), call)
    output = torch.einsum("bngt,bntgd->bngd", weights.flatten(1, -3), values)
    return output.unflatten(1, call.map_size).to(dtype)


def attend(call: Call) -> Tensor:
    """Slide attention by the plain formula."""
    return weighted_values(attention_weights(call), call)
