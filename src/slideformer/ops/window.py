# SPDX-License-Identifier: Apache-2.0
"""The window: the only place that knows kernel size, dilation, border and the order of taps.

A map has one to three axes, ``(B, *map, G, D)``, and a window one `Axis` for each. Every border is handled in
the same three steps, so that no backend has special cases:

1. `Window.pad` surrounds the map with zeros, along a periodic axis with its own other end,
2. `Window.shifted` reads one tap for every position from the padded map,
3. `Window.logit_offset` excludes taps outside the map by adding minus infinity to their logit.

Taps are in row-major order: the last axis runs fastest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Border = Literal["zeros", "mask", "clamp", "wrap"]
BORDERS: tuple[str, ...] = get_args(Border)
# Place of the first tap of each position of an axis, None where it is the position itself; one an axis.
Starts = tuple[Tensor | None, ...]


def not_negative(size: int) -> int:
    """A size, or 0 where it is less; symbolic in an exported program, a tensor in a traced one."""
    return size.clamp(min=0) if isinstance(size, Tensor) else cast("int", torch.sym_max(0, size))


@dataclass(frozen=True)
class Axis:
    """One axis of the window, of K taps with a spacing, laid over a map of ``size`` positions."""

    size: int
    kernel_size: int
    dilation: int
    border: Border

    @property
    def span(self) -> int:
        """Distance from the first tap to the last, in positions."""
        return self.dilation * (self.kernel_size - 1)

    @property
    def padding(self) -> tuple[int, int]:
        """Places before and after the map that windows reach, in positions."""
        if self.border != "clamp":
            return self.span // 2, self.span // 2
        # A clamped window leaves the map only where the map is smaller than the window. On a map smaller than
        # the dilation less would do, but a symbolic size would have to be compared with it.
        return 0, not_negative(self.span + self.dilation - self.size)

    def starts(self, device: torch.device) -> Tensor:
        """Place of the first tap in the padded axis, for each position: ``(size,)``."""
        position = torch.arange(self.size, device=device)
        if self.border != "clamp":
            return position
        # Positions with the same remainder modulo the dilation form a grid of their own, in which
        # the window slides inward until it holds K neighbours (or all, where there are fewer).
        remainder, place = position % self.dilation, position // self.dilation
        length = (self.size - remainder + self.dilation - 1) // self.dilation
        first = torch.minimum(place - self.kernel_size // 2, length - self.kernel_size).clamp(min=0)
        return first * self.dilation + remainder

    def reached(self, device: torch.device) -> Tensor:
        """Place of each tap along the unpadded axis, perhaps outside of it: ``(size, K)``."""
        taps = torch.arange(self.kernel_size, device=device) * self.dilation
        return self.starts(device)[:, None] + taps - self.padding[0]

    def sources(self, device: torch.device) -> Tensor:
        """The same, where a periodic axis begins again: ``(size, K)``."""
        reached = self.reached(device)
        return reached % self.size if self.border == "wrap" else reached

    def inside(self, device: torch.device) -> Tensor:
        """Whether each tap is on the map: ``(size, K)``, bool."""
        sources = self.sources(device)
        return (sources >= 0) & (sources < self.size)

    def relative(self, device: torch.device) -> Tensor:
        """Index of each tap's distance from its query, in ``[0, 2K - 2]``: ``(size, K)``."""
        position = torch.arange(self.size, device=device)[:, None]
        distance = self.reached(device) - position
        return distance.div(self.dilation, rounding_mode="floor") + self.kernel_size - 1

    @property
    def excludes(self) -> bool:
        """Whether taps may have to be left out."""
        # A symbolic size (while exporting) is not an int: then nothing is known and the mask is built.
        fits = isinstance(self.size, int) and self.size > self.span + self.dilation - 1
        return self.border == "mask" or (self.border == "clamp" and not fits)


@dataclass(frozen=True)
class Window:
    """A neighbourhood: kernel size, dilation and border of each axis."""

    kernel_size: tuple[int, ...]
    dilation: tuple[int, ...]
    border: tuple[Border, ...]

    @property
    def taps(self) -> int:
        """Number of taps T."""
        return math.prod(self.kernel_size)

    @property
    def table(self) -> tuple[int, ...]:
        """Shape of a table by position relative to the query: ``2 K - 1`` an axis."""
        return tuple(2 * side - 1 for side in self.kernel_size)

    @property
    def zeros(self) -> bool:
        """Whether zero vectors are around the map on all sides."""
        return set(self.border) == {"zeros"}

    @property
    def fills(self) -> bool:
        """Whether what is outside the map is a zero vector or the map itself, and takes part."""
        return not {"mask", "clamp"} & set(self.border)

    def axes(self, size: Sequence[int]) -> tuple[Axis, ...]:
        """The window's axes over a map of this size."""
        rows = zip(size, self.kernel_size, self.dilation, self.border, strict=True)
        return tuple(Axis(*row) for row in rows)

    def offset(self, tap: int) -> tuple[int, ...]:
        """Distance from the window's first tap to this one along each axis, in positions."""
        places = []
        for side, step in zip(reversed(self.kernel_size), reversed(self.dilation), strict=True):
            tap, place = divmod(tap, side)
            places.append(place * step)
        return tuple(reversed(places))

    def pad(self, x: Tensor) -> Tensor:
        """Surround a map ``(B, *map, ...)`` by what its windows reach."""
        axes = self.axes(x.shape[1 : 1 + len(self.border)])
        zeros = [(0, 0) if axis.border == "wrap" else axis.padding for axis in axes]
        x = F.pad(x, (0, 0) * (x.ndim - 1 - len(axes)) + tuple(n for both in reversed(zeros) for n in both))
        for dim, axis in enumerate(axes, start=1):
            before, after = axis.padding
            if axis.border == "wrap" and before:
                x = torch.cat([x.narrow(dim, axis.size - before, before), x, x.narrow(dim, 0, after)], dim)
        return x

    def fold(self, padded: Tensor, size: Sequence[int]) -> Tensor:
        """The transpose of `pad`: leave out the zeros, and add what is around a periodic axis to its ends."""
        for dim, axis in reversed(list(enumerate(self.axes(size), start=1))):
            before, after = axis.padding
            inner = padded.narrow(dim, before, axis.size)
            if axis.border == "wrap" and before:
                inner = inner.clone()
                inner.narrow(dim, axis.size - before, before).add_(padded.narrow(dim, 0, before))
                inner.narrow(dim, 0, after).add_(padded.narrow(dim, before + axis.size, after))
            padded = inner
        return padded

    def starts(self, size: Sequence[int], device: torch.device) -> Starts:
        """First tap of each position in the padded map, by axis; None where it is the position."""
        axes = self.axes(size)
        return tuple(axis.starts(device) if axis.border == "clamp" else None for axis in axes)

    def shifted(self, padded: Tensor, tap: int, rows: slice, starts: Starts) -> Tensor:
        """The map at this tap of every position of some rows, its first axis: ``(B, rows, ..., G, D)``.

        A view, unless the window slides.
        """
        x, places = self.narrowed(padded, tap, rows, starts)
        for dim, place in places:
            x = x.index_select(dim, place)
        return x

    def add_shifted(
        self, padded: Tensor, tap: int, rows: slice, starts: Starts, a: Tensor, b: Tensor
    ) -> None:
        """Add a product to the padded map, in place, at the places that `shifted` reads: its transpose."""
        x, places = self.narrowed(padded, tap, rows, starts)
        if not places:
            x.addcmul_(a, b)
            return
        update = a * b
        for dim, place in reversed(places[1:]):
            wide = update.new_zeros((*update.shape[:dim], x.shape[dim], *update.shape[dim + 1 :]))
            update = wide.index_add_(dim, place, update)
        dim, place = places[0]
        x.index_add_(dim, place, update)

    def narrowed(
        self, padded: Tensor, tap: int, rows: slice, starts: Starts
    ) -> tuple[Tensor, list[tuple[int, Tensor]]]:
        """A view of the padded map at a tap, and the places to read along the axes where windows slide."""
        x, places = padded, []
        for dim, (step, start) in enumerate(zip(self.offset(tap), starts, strict=True), start=1):
            if start is not None:
                places.append((dim, (start[rows] if dim == 1 else start) + step))
            elif dim == 1:
                x = x[:, rows.start + step : rows.stop + step]
            else:
                span = (self.kernel_size[dim - 1] - 1) * self.dilation[dim - 1]
                x = x.narrow(dim, step, padded.shape[dim] - span)
        return x, places

    def masked(self, exists: Tensor) -> Tensor:
        """Whether each tap reads a key that does not exist: ``(B, *map)`` to ``(B, *map, 1, T)``, bool."""
        size = exists.shape[1:]
        padded, starts = self.pad(~exists), self.starts(size, exists.device)
        taps = [self.shifted(padded, tap, slice(0, size[0]), starts) for tap in range(self.taps)]
        return torch.stack(taps, -1).unsqueeze(-2)

    def is_table(self, logit_bias: Tensor) -> bool:
        """Whether a logit bias is by position relative to the query, and not by tap."""
        return tuple(logit_bias.shape[1:]) != (self.taps,)

    def logit_offset(self, size: Sequence[int], logit_bias: Tensor | None, like: Tensor) -> Tensor | None:
        """The logits' part that does not depend on the query: the bias, and minus infinity outside the map.

        Args:
            size: of the map, one number an axis.
            logit_bias: ``(G, T)`` by tap, or ``(G, 2 K - 1, ...)``, an axis each, by relative position.
            like: gives the device and the dtype.

        Returns:
            A tensor that broadcasts to ``(*map, G, T)``, or None where nothing is added.
        """
        axes, count, device = self.axes(size), len(size), like.device
        bias = None
        if logit_bias is not None:
            bias = logit_bias.to(like.dtype)
            if not self.is_table(logit_bias):
                bias = bias[(None,) * count]
            else:
                for place, axis in enumerate(axes):
                    dim = 1 + 2 * place
                    bias = bias.index_select(dim, axis.relative(device).flatten())
                    bias = bias.unflatten(dim, (axis.size, axis.kernel_size))
                sides = range(1, 2 * count, 2)  # (G, rows, K, columns, K) to (rows, columns, G, T)
                bias = bias.permute(*sides, 0, *(side + 1 for side in sides)).flatten(count + 1)
        inside = self.inside(axes, device)
        if inside is None:
            return bias
        nothing = torch.zeros((), dtype=like.dtype, device=device) if bias is None else bias
        return torch.where(inside, nothing, -torch.inf)

    def inside(self, axes: Sequence[Axis], device: torch.device) -> Tensor | None:
        """Whether each tap takes part: bool that broadcasts to ``(*map, 1, T)``, or None where all do."""
        if not any(axis.excludes for axis in axes):
            return None
        count, inside = len(axes), torch.ones((), dtype=torch.bool, device=device)
        for place, axis in enumerate(axes):
            if axis.excludes:
                shape = [1] * 2 * count
                shape[place], shape[count + place] = axis.size, axis.kernel_size
                inside = inside & axis.inside(device).view(shape)
        return inside.expand(*inside.shape[:count], *self.kernel_size).flatten(count).unsqueeze(count)
