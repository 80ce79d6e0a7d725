# SPDX-License-Identifier: Apache-2.0
"""Slide attention query by query and tap by tap, from the words of its documentation alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor


def line_of_taps(size: int, kernel_size: int, dilation: int, border: str, position: int) -> list[int | str]:
    """The place that each tap of one axis reads, or ``"zero"``, or ``"out"`` where it is left out."""
    half = kernel_size // 2
    if border == "clamp":
        grid = range(position % dilation, size, dilation)
        place = grid.index(position)
        first = max(0, min(place - half, len(grid) - kernel_size))
        return [grid[first + t] if first + t < len(grid) else "out" for t in range(kernel_size)]
    places: list[int | str] = []
    for tap in range(kernel_size):
        place = position + (tap - half) * dilation
        if border == "wrap":
            places.append(place % size)
        elif 0 <= place < size:
            places.append(place)
        else:
            places.append("zero" if border == "zeros" else "out")
    return places


def slide_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    border: Sequence[str],
    key_mask: Tensor | None = None,
    shift_weight: Tensor | None = None,
    shift_bias: Tensor | None = None,
    key_bias: Tensor | None = None,
    logit_bias: Tensor | None = None,
) -> Tensor:
    """The output ``(B, *map, G, D)``, one entry of the options an axis."""
    batch, *size, heads, channels = query.shape
    out = torch.zeros(batch, *size, heads, value.shape[-1], dtype=value.dtype)
    all_zeros = set(border) == {"zeros"}
    for b, position in itertools.product(range(batch), itertools.product(*map(range, size))):
        lines = [
            line_of_taps(*options, place)
            for *options, place in zip(size, kernel_size, dilation, border, position, strict=True)
        ]
        keys, values, there = [], [], []
        for places in itertools.product(*lines):
            out_of_map = "out" in places
            zero = not out_of_map and "zero" in places
            if not (out_of_map or zero) and key_mask is not None and not key_mask[(b, *places)]:
                out_of_map, zero = not all_zeros, all_zeros
            there.append(not out_of_map)
            nothing = out_of_map or zero
            keys.append(torch.zeros(heads, channels).to(key) if nothing else key[(b, *places)])
            values.append(torch.zeros(heads, value.shape[-1]).to(value) if nothing else value[(b, *places)])
        if not any(there):
            continue
        k, v = torch.stack(keys), torch.stack(values)  # (T, G, D)
        if shift_weight is not None:
            k, v = (torch.einsum("ctu,ugc->tgc", shift_weight, x) for x in (k, v))
        if shift_bias is not None:
            k, v = k + shift_bias.T[:, None], v + shift_bias.T[:, None]
        if key_bias is not None:
            k = k + key_bias.T[..., None]
        logits = torch.einsum("gc,tgc->tg", query[(b, *position)], k) * channels**-0.5
        if logit_bias is not None:
            by_tap = logit_bias.shape[1:] == (len(there),)
            for t, places in enumerate(itertools.product(*map(enumerate, lines))):
                if not there[t]:
                    continue
                if by_tap:
                    logits[t] = logits[t] + logit_bias[:, t]
                    continue
                steps = [
                    unwrapped(place, at, tap, side, step, kind) + side - 1
                    for (tap, place), at, side, step, kind in zip(
                        places, position, kernel_size, dilation, border, strict=True
                    )
                ]
                logits[t] = logits[t] + logit_bias[(slice(None), *steps)]
        logits = torch.where(torch.tensor(there)[:, None], logits, -torch.inf)
        out[(b, *position)] = torch.einsum("tg,tgc->gc", logits.softmax(0), v)
    return out


def unwrapped(place: int | str, position: int, tap: int, side: int, step: int, border: str) -> int:
    """Distance of a tap from its query, in steps of the dilation."""
    if border == "clamp":
        assert isinstance(place, int)
        return (place - position) // step
    return tap - side // 2
