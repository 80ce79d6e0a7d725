# SPDX-License-Identifier: Apache-2.0
"""Slide attention of one tile of positions as matrix products, tap by tap.

With ``k_u`` the map seen through input tap u, ``W_u = W[:, :, u]`` and ``*`` elementwise,

    logits = sum_u (q * k_u) W_u  + q b         a product (pixels x D) (D x T) a tap
    output = sum_u (A W_u^T) * v_u + A b^T      a product (pixels x T) (T x D) a tap,  A = softmax(logits)

equals the paper's convolutions, and the shifted copies of the map never exist.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from slideformer.ops.call import Call
from slideformer.ops.window import Starts, Window

# Elements of one tile of the map: small enough for a core's cache, large enough to hide the price of
# starting an operation. On a GPU a tile only has to bound the memory.
TILE_ELEMENTS = {"cpu": 1 << 19}
TILE_ELEMENTS_ELSEWHERE = 1 << 24


def rows(x: Tensor) -> Tensor:
    """A map as the matrix of its positions and heads: ``(..., D) -> (N G, D)``."""
    return x.flatten(0, -2)


@dataclass(frozen=True)
class Shift:
    """The deformed shift by input tap: weight ``(T, D, T)``, a (D x T) matrix a tap, and bias ``(D, T)``.

    Logits and weights have the taps first, ``(T, b, rows, ..., G)``: softmax and products then run along
    positions, which are many, and not along taps, which are few and of an odd number.
    """

    weight: Tensor | None
    bias: Tensor | None

    @classmethod
    def of(cls, weight: Tensor | None, bias: Tensor | None, dtype: torch.dtype) -> Shift:
        """The shift of the operator's ``(D, T, T)`` [channel, output tap, input tap]."""
        weight = None if weight is None else weight.to(dtype).permute(2, 0, 1).contiguous()
        return cls(weight, None if bias is None else bias.to(dtype))

    def contract(self, x: Tensor, taps: Iterator[Tensor]) -> Tensor:
        """``sum_u (x * m_u) W_u + x b``: ``(..., D)`` and a map's taps give ``(T, ...)``."""
        bias = None
        if self.bias is not None:
            bias = (self.bias.T @ rows(x).T).view(self.bias.shape[1], *x.shape[:-1])
        if self.weight is None:
            y = torch.stack([(x * tap).sum(-1) for tap in taps])
            return y if bias is None else y + bias
        total = x.new_zeros((len(self.weight), rows(x).shape[0])) if bias is None else bias.flatten(1)
        for tap, weight in zip(taps, self.weight, strict=True):
            total = total.addmm_(weight.T, rows(x * tap).T)
        return total.view(len(self.weight), *x.shape[:-1])

    def spread(self, y: Tensor, taps: Iterator[Tensor]) -> Tensor:
        """``sum_u (y W_u^T) * m_u + y b^T``: ``(T, ...)`` and a map's taps give ``(..., D)``."""
        total = None
        if self.bias is not None:
            total = (y.flatten(1).T @ self.bias.T).view(*y.shape[1:], len(self.bias))
        for tap, seen in enumerate(taps):
            factor = self.factor(y, tap)
            total = factor * seen if total is None else total.addcmul_(factor, seen)
        assert total is not None  # a window has at least one tap
        return total

    def factor(self, y: Tensor, tap: int) -> Tensor:
        """``y W_u^T``, the factor of one input tap of the map: ``(..., D)`` or ``(..., 1)``."""
        if self.weight is None:
            return y[tap, ..., None]
        matrix = self.weight[tap]
        return (y.flatten(1).T @ matrix.T).view(*y.shape[1:], len(matrix))


@dataclass(frozen=True)
class Tile:
    """A tile of some rows, places along the first axis, and how each tap reads a padded map there."""

    window: Window
    rows: slice
    starts: Starts

    def taps(self, padded: Tensor) -> Iterator[Tensor]:
        """The map seen through each tap in turn: ``(b, rows, ..., G, D)``."""
        for tap in range(self.window.taps):
            yield self.window.shifted(padded, tap, self.rows, self.starts)

    def add(self, padded: Tensor, tap: int, a: Tensor, b: Tensor) -> None:
        """Add a product, in place, where a tap reads."""
        self.window.add_shifted(padded, tap, self.rows, self.starts, a, b)

    def of_offset(self, offset: Tensor) -> Tensor:
        """The rows of a logit offset ``(T, b, *map, G)`` that may be the same for all rows."""
        return offset if offset.shape[2] == 1 else offset[:, :, self.rows]


@dataclass(frozen=True)
class Operands:
    """Part of the batch, its maps padded, and the parameters in the dtype of the computation."""

    query: Tensor
    key: Tensor  # padded
    value: Tensor  # padded
    shift: Shift
    key_bias: Tensor | None
    offset: Tensor | None  # (T, b, *map, G), or 1 for any but T
    scale: float
    dtype: torch.dtype
    softmax: Callable[[Tensor, int], Tensor]

    @classmethod
    def of(cls, call: Call, offset: Tensor | None) -> Operands:
        """Pad and upcast; ``offset`` is the call's `Call.tap_offset`."""
        ones = (1,) * (1 + len(call.map_size))
        key_bias = None if call.key_bias is None else call.key_bias.to(call.dtype).T
        return cls(
            query=call.query,
            key=call.window.pad(call.key),
            value=call.window.pad(call.value),
            shift=Shift.of(call.shift_weight, call.shift_bias, call.dtype),
            key_bias=None if key_bias is None else key_bias.unflatten(0, (-1, *ones)),
            offset=None if offset is None else offset.movedim(-1, 0),
            scale=call.scale,
            dtype=call.dtype,
            softmax=call.softmax,
        )

    def scaled_query(self, tile: Tile) -> Tensor:
        """The tile's queries times the scale: ``(b, rows, ..., G, D)``."""
        return self.query[:, tile.rows].to(self.dtype) * self.scale

    def weights(self, tile: Tile) -> Tensor:
        """The weights that a half has for queries: ``(T, b, rows, ..., G)``."""
        return self.query[:, tile.rows].movedim(-1, 0).to(self.dtype).contiguous()

    def logits(self, tile: Tile, query: Tensor) -> Tensor:
        """The logits of scaled queries: ``(T, b, rows, ..., G)``."""
        logits = self.shift.contract(query, tile.taps(self.key))
        if self.key_bias is not None:
            logits = logits + query.sum(-1) * self.key_bias
        if self.offset is None:
            return logits
        offset = tile.of_offset(self.offset)
        return torch.where(offset == -torch.inf, offset, logits + offset)

    def values(self, tile: Tile, weights: Tensor) -> Tensor:
        """The sum of the values: ``(T, b, rows, ..., G) -> (b, rows, ..., G, D)``."""
        return self.shift.spread(weights, tile.taps(self.value))

    def attend(self, tile: Tile) -> Tensor:
        """The tile's output: ``(b, rows, ..., G, D)``."""
        return self.values(tile, self.softmax(self.logits(tile, self.scaled_query(tile)), 0))


def split_evenly(length: int, longest: int) -> Iterator[slice]:
    """Split a length into the fewest pieces that are no longer than asked, equal up to one."""
    pieces = max(1, -(-length // max(1, longest)))
    for piece in range(pieces):
        yield slice(piece * length // pieces, (piece + 1) * length // pieces)


def split_into_tiles(call: Call) -> Iterator[tuple[slice, Call, list[Tile]]]:
    """Split the batch into some maps at a time, and these into tiles of some rows."""
    batch, height, *others, _ = call.query.shape
    starts = call.window.starts(call.map_size, call.query.device)
    # A compiler needs one short graph for any size, and plans the memory itself.
    if torch.compiler.is_compiling():
        yield slice(0, batch), call, [Tile(call.window, slice(0, height), starts)]
        return
    elements = TILE_ELEMENTS.get(call.query.device.type, TILE_ELEMENTS_ELSEWHERE)
    row = math.prod(others) * max(x.shape[-1] for x in (call.query, call.key, call.value))
    tiles = [Tile(call.window, rows, starts) for rows in split_evenly(height, elements // row)]
    for maps in split_evenly(batch, elements // (height * row)):
        yield maps, replace(call, query=call.query[maps], key=call.key[maps], value=call.value[maps]), tiles
