# SPDX-License-Identifier: Apache-2.0
"""Slide attention query by query and tap by tap, from the words of its documentation alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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


@dataclass
class Seen:
    """Keys or values that one query sees: ``(T, G, D)``, and which of the taps take part."""

    batch: int
    position: tuple[int, ...]
    lines: list[list[int | str]]
    there: list[bool]
    taps: Tensor


def windows(
    x: Tensor,
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    border: Sequence[str],
    key_mask: Tensor | None,
    shift_weight: Tensor | None,
    shift_bias: Tensor | None,
) -> Iterator[Seen]:
    """The window of every query on a map ``(B, *map, G, D)``, shifted; one entry of the options an axis."""
    batch, *size, heads, channels = x.shape
    all_zeros = set(border) == {"zeros"}
    for b, position in itertools.product(range(batch), itertools.product(*map(range, size))):
        lines = [
            line_of_taps(*options, place)
            for *options, place in zip(size, kernel_size, dilation, border, position, strict=True)
        ]
        taps, there = [], []
        for places in itertools.product(*lines):
            out_of_map = "out" in places
            zero = not out_of_map and "zero" in places
            if not (out_of_map or zero) and key_mask is not None and not key_mask[(b, *places)]:
                out_of_map, zero = not all_zeros, all_zeros
            there.append(not out_of_map)
            taps.append(torch.zeros(heads, channels).to(x) if out_of_map or zero else x[(b, *places)])
        seen = torch.stack(taps)  # (T, G, D)
        if shift_weight is not None:
            seen = torch.einsum("ctu,ugc->tgc", shift_weight, seen)
        if shift_bias is not None:
            seen = seen + shift_bias.T[:, None]
        yield Seen(b, position, lines, there, seen)


def logits(
    query: Tensor,
    key: Tensor,
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
    """The logits ``(B, *map, G, T)``, minus infinity where a tap is left out."""
    found = []
    for seen in windows(key, kernel_size, dilation, border, key_mask, shift_weight, shift_bias):
        keys = seen.taps
        if key_bias is not None:
            keys = keys + key_bias.T[..., None]
        each = torch.einsum("gc,tgc->gt", query[(seen.batch, *seen.position)], keys) * query.shape[-1] ** -0.5
        if logit_bias is not None and logit_bias.shape[1:] == (len(seen.there),):
            each = each + logit_bias
        elif logit_bias is not None:
            steps = [
                [
                    unwrapped(place, at, tap, side, step, kind) + side - 1
                    for (tap, place), at, side, step, kind in zip(
                        places, seen.position, kernel_size, dilation, border, strict=True
                    )
                ]
                if there
                else [0] * len(places)
                for there, places in zip(
                    seen.there, itertools.product(*map(enumerate, seen.lines)), strict=True
                )
            ]
            each = each + logit_bias[(slice(None), *zip(*steps, strict=True))]
        found.append(torch.where(torch.tensor(seen.there), each, -torch.inf))
    return torch.stack(found).view(*query.shape[:-1], math.prod(kernel_size))


def weights(logits: Tensor) -> Tensor:
    """Softmax over the taps for every query that sees something, zeros for others."""
    rows = logits.flatten(0, -2)
    found = [x.softmax(0) if x.max() > -torch.inf else 0 * x.nan_to_num(neginf=0) for x in rows]
    return torch.stack(found).view_as(logits)


def values(
    weights: Tensor,
    value: Tensor,
    *,
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    border: Sequence[str],
    key_mask: Tensor | None = None,
    shift_weight: Tensor | None = None,
    shift_bias: Tensor | None = None,
) -> Tensor:
    """The weighted sums of values ``(B, *map, G, D)``."""
    found = [
        torch.einsum("gt,tgc->gc", weights[(seen.batch, *seen.position)], seen.taps)
        for seen in windows(value, kernel_size, dilation, border, key_mask, shift_weight, shift_bias)
    ]
    return torch.stack(found).view_as(value)


def slide_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_bias: Tensor | None = None,
    logit_bias: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """The output ``(B, *map, G, D)``."""
    found = logits(query, key, key_bias=key_bias, logit_bias=logit_bias, **options)
    return values(weights(found), value, **options)


def unwrapped(place: int | str, position: int, tap: int, side: int, step: int, border: str) -> int:
    """Distance of a tap from its query, in steps of the dilation."""
    if border == "clamp":
        assert isinstance(place, int)
        return (place - position) // step
    return tap - side // 2
