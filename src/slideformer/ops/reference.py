# SPDX-License-Identifier: Apache-2.0
"""The definition of slide attention: the plain formula, in any dtype, without optimisation.

A backend is right when its values and gradients agree with this file.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from slideformer.ops.call import Call
from slideformer.ops.window import Window


def neighbours(x: Tensor, window: Window) -> Tensor:
    """The map at each tap, zero outside the map: ``(B, H, W, G, D) -> (B, H, W, T, G, D)``."""
    height, width = x.shape[1:3]
    rows, columns = (axis.sources(x.device) for axis in window.axes(height, width))
    # Zeros wide enough for every tap on all four sides, so that an index is never negative.
    margin_rows, margin_columns = (axis.span for axis in window.axes(height, width))
    padded = F.pad(x, (0, 0, 0, 0, margin_columns, margin_columns, margin_rows, margin_rows))
    rows, columns = rows + margin_rows, columns + margin_columns
    gathered = padded[:, rows[:, None, :, None], columns[None, :, None, :]]  # (B, H, W, K, K, G, D)
    return gathered.flatten(3, 4)


def deform(taps: Tensor, call: Call) -> Tensor:
    """Mix the taps by the learned shift: ``K'_t = sum_u W[c, t, u] K_u + b[c, t]`` (paper, section 4.2)."""
    if call.shift_weight is not None:
        taps = torch.einsum("bhwugd,dtu->bhwtgd", taps, call.shift_weight)
    if call.shift_bias is not None:
        taps = taps + call.shift_bias.T[:, None, :]
    return taps


def attention_weights(call: Call) -> Tensor:
    """Softmax of the logits over the taps: ``(B, H, W, G, T)``."""
    call = call.upcast()
    keys = deform(neighbours(call.key, call.window), call)
    if call.key_bias is not None:
        keys = keys + call.key_bias.T[:, :, None]
    logits = call.scale * torch.einsum("bhwgd,bhwtgd->bhwgt", call.query, keys)
    offset = call.logit_offset()
    return (logits if offset is None else logits + offset).softmax(-1)


def weighted_values(weights: Tensor, call: Call) -> Tensor:
    """Sum of the shifted values, weighted: ``(B, H, W, G, T) -> (B, H, W, G, D)``."""
    dtype = call.value.dtype
    call = call.upcast()
    values = deform(neighbours(call.value, call.window), call)
    return torch.einsum("bhwgt,bhwtgd->bhwgd", weights, values).to(dtype)


def attend(call: Call) -> Tensor:
    """Slide attention by the plain formula."""
    return weighted_values(attention_weights(call), call)
