# SPDX-License-Identifier: Apache-2.0
"""Functions that all kernels share: pixels of a program, places of taps, loads and stores of a tile.

The device's side of `slideformer.ops.window`. A map's strides come as a tuple (B, H, W, G, D) in
elements; addresses are 64-bit, made once a program for the tile and then moved by one number a tap.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slideformer.ops.triton import INTERPRETED

# Sizes that do not make a kernel faster by being known: one compilation serves every map.
UNSPECIALISED = ("height", "width", "heads", "size_class", "batches", "parts")
# The factor of logits kept in powers of two.
LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)
# The interpreter holds bfloat16 as integers and can only convert it.
EMULATED: tl.constexpr = tl.constexpr(INTERPRETED)


@triton.jit
def tile_of_program(height, width, heads, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr):
    """One (batch, head) and a 2-D tile of its positions: batch, head, rows (P,), columns (P,), on the map.

    Heads run fastest: programs that run together read neighbouring bytes of one position.
    """
    program = tl.program_id(0)
    head = program % heads
    tile = program // heads
    across, down = tl.cdiv(width, BLOCK_W), tl.cdiv(height, BLOCK_H)
    pixel = tl.arange(0, BLOCK_H * BLOCK_W)
    row = tile // across % down * BLOCK_H + pixel // BLOCK_W
    column = tile % across * BLOCK_W + pixel % BLOCK_W
    batch = tile // across // down
    return batch.to(tl.int64), head.to(tl.int64), row, column, (row < height) & (column < width)


@triton.jit
def window_start(place, size, K: tl.constexpr, DILATION: tl.constexpr, CLAMP: tl.constexpr):
    """Place of the window's first tap along one axis; outside the map for the borders that do not clamp."""
    if CLAMP:
        remainder = place % DILATION
        length = (size - remainder + DILATION - 1) // DILATION
        first = tl.maximum(tl.minimum(place // DILATION - K // 2, length - K), 0)
        start = first * DILATION + remainder
    else:
        start = place - K // 2 * DILATION
    return start


@triton.jit
def first_query(place, K: tl.constexpr, DILATION: tl.constexpr, CLAMP: tl.constexpr):
    """The first query, among those DILATION apart, whose window holds this place of one axis."""
    if CLAMP:
        on_grid = place // DILATION
        query = tl.where(on_grid > K - 1, on_grid - K // 2, 0) * DILATION + place % DILATION
    else:
        query = place - K // 2 * DILATION
    return query


@triton.jit
def last_query(place, size, K: tl.constexpr, DILATION: tl.constexpr, CLAMP: tl.constexpr):
    """The last of the queries whose window holds this place of one axis."""
    if CLAMP:
        remainder, on_grid = place % DILATION, place // DILATION
        length = (size - remainder + DILATION - 1) // DILATION
        query = tl.where(on_grid >= length - K, length - 1, on_grid + K // 2) * DILATION + remainder
    else:
        query = place + K // 2 * DILATION
    return query


@triton.jit
def tap_seeing(query, place, size, K: tl.constexpr, DILATION: tl.constexpr, CLAMP: tl.constexpr):
    """The tap by which a query sees a place of one axis, and the place's distance + K - 1 in taps."""
    tap = (place - window_start(query, size, K, DILATION, CLAMP)) // DILATION
    return tap, (place - query + (K - 1) * DILATION) // DILATION


@triton.jit
def on_axis(place, size):
    """Whether a place is on the map."""
    return (place >= 0) & (place < size)


@triton.jit
def offset_of(batch, head, row, column, strides):
    """Offsets of positions, in elements from the start of the map: int64, (P,)."""
    start = batch * strides[0] + head * strides[3]
    return start + row.to(tl.int64) * strides[1] + column.to(tl.int64) * strides[2]


@triton.jit
def position_of(batch, head, row, column, height, width, heads):
    """Number of a position and head in a dense (B, H, W, G) tensor: int64, (P,)."""
    return ((batch * height + row) * width + column) * heads + head


@triton.jit
def wide(x):
    """A number as a 64-bit scalar, also where it was specialised to a constant."""
    return tl.full((), 1, tl.int64) * x


@triton.jit
def load_tile(pointer, offset, valid, channel_stride, first, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """Some channels of a tile, zero where not valid: (P, BLOCK)."""
    channel = first + tl.arange(0, BLOCK)
    mask = valid[:, None]
    if CHANNELS % BLOCK != 0:
        mask = mask & (channel < CHANNELS)[None, :]
    return tl.load(pointer + offset[:, None] + (channel * channel_stride)[None, :], mask=mask, other=0.0)


@triton.jit
def store_tile(pointer, offset, valid, x, first, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """Store some channels of a tile, in the dtype of the map, whose channels are dense: (P, BLOCK)."""
    channel = first + tl.arange(0, BLOCK)
    mask = valid[:, None]
    if CHANNELS % BLOCK != 0:
        mask = mask & (channel < CHANNELS)[None, :]
    tl.store(pointer + offset[:, None] + channel[None, :], x.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def turned(x, TURN: tl.constexpr, WARPS: tl.constexpr):
    """Reorder a loaded tile of half-precision numbers for the matrix unit: (P, 32) -> (P, 32).

    A thread loads 8 neighbouring channels in one go, of rows 8 WARPS apart; the matrix unit wants 4 pairs
    of channels, 8 apart, of rows that are 8 apart within a warp. Any order of channels gives the same sums,
    and any order of rows the same tile: with this one, what a thread has loaded is what it multiplies, and
    no operand passes through shared memory.
    """
    if TURN:
        x = x.reshape(x.shape[0] // (16 * WARPS), 2, WARPS, 8, 4, 4, 2).permute(0, 2, 1, 3, 5, 4, 6)
        x = x.reshape(x.shape[0] * x.shape[1] * x.shape[2] * 8, 32)
    return x


@triton.jit
def turned_back(x, TURN: tl.constexpr, WARPS: tl.constexpr):
    """Undo `turned`."""
    if TURN:
        x = x.reshape(x.shape[0] // (16 * WARPS), WARPS, 2, 8, 4, 4, 2).permute(0, 2, 1, 3, 5, 4, 6)
        x = x.reshape(x.shape[0] * x.shape[1] * x.shape[2] * 8, 32)
    return x


@triton.jit
def rows_turned(x, TURN: tl.constexpr, WARPS: tl.constexpr):
    """The rows of other numbers in the order of `turned`: (P, N)."""
    if TURN and WARPS > 1:
        N: tl.constexpr = x.shape[1]
        x = x.reshape(x.shape[0] // (16 * WARPS), 2, WARPS, 8, N).permute(0, 2, 1, 3, 4)
        x = x.reshape(x.shape[0] * x.shape[1] * x.shape[2] * 8, N)
    return x


@triton.jit
def rows_turned_back(x, TURN: tl.constexpr, WARPS: tl.constexpr):
    """Undo `rows_turned`."""
    if TURN and WARPS > 1:
        N: tl.constexpr = x.shape[1]
        x = x.reshape(x.shape[0] // (16 * WARPS), WARPS, 2, 8, N).permute(0, 2, 1, 3, 4)
        x = x.reshape(x.shape[0] * x.shape[1] * x.shape[2] * 8, N)
    return x


@triton.jit
def times(x, y):
    """Elementwise product in the dtype of the factors: one rounding."""
    return (x.to(tl.float32) * y.to(tl.float32)).to(x.dtype) if EMULATED else x * y


@triton.jit
def matmul(x, y, total, PRECISION: tl.constexpr):
    """``total + x y`` in float32; no total is zero."""
    if EMULATED:
        x, y = x.to(tl.float32), y.to(tl.float32)
    return tl.dot(x, y, total, input_precision=PRECISION)
