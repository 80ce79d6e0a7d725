# SPDX-License-Identifier: Apache-2.0
"""Functions that all kernels share: pixels of a program, places of taps, loads and stores of a tile.

The device's side of `slideformer.ops.window`. A map has three axes here, planes, rows and columns, the first
of which may have one place only. Places, sizes and taps are tuples with an entry an axis, and AXES holds for
each its (kernel size, dilation, border), in the order of `sizes.Sizes.axes`. A map's strides come as a tuple
(B, Z, H, W, G, D) in elements; addresses are 64-bit, made once a program for the tile and then moved by one
number a tap, along a periodic axis by one a position. The taps of one row of the window are a line: a kernel
has a loop over the lines of all planes.

Functions are few and long rather than many: each call of one takes Triton's interpreter a millisecond.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slideformer.ops.triton import INTERPRETED
from slideformer.ops.window import BORDERS

# Sizes that do not make a kernel faster by being known: one compilation serves every map.
UNSPECIALISED = ("height", "width", "heads", "size_class", "tiles", "parts")
# A compilation of its own for maps of one plane, of which nothing is left of the first axis.
kernel = triton.jit(do_not_specialize=UNSPECIALISED, do_not_specialize_on_alignment=("depth",))
# Borders by number: releases of Triton before 3.8 take no text in a tuple.
MASK: tl.constexpr = tl.constexpr(BORDERS.index("mask"))
CLAMP: tl.constexpr = tl.constexpr(BORDERS.index("clamp"))
WRAP: tl.constexpr = tl.constexpr(BORDERS.index("wrap"))
# The factor of logits kept in powers of two.
LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)
# Longest window of one line whose taps are written out: of more, registers do not hold what is loaded ahead.
UNROLLED: tl.constexpr = tl.constexpr(7)
# The interpreter holds bfloat16 as integers and can only convert it.
EMULATED: tl.constexpr = tl.constexpr(INTERPRETED)


@triton.jit
def tile_of_program(depth, height, width, heads, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr):
    """The tile of this program, see `tile_of`."""
    return tile_of(tl.program_id(0), depth, height, width, heads, BLOCK_H, BLOCK_W)


@triton.jit
def tile_of(program, depth, height, width, heads, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr):
    """One (batch, head) and a tile of positions of one plane: batch, head, place, whether on the map (P,).

    Heads run fastest: programs that run together read neighbouring bytes of one position.
    """
    head = program % heads
    tile = program // heads
    across, down = tl.cdiv(width, BLOCK_W), tl.cdiv(height, BLOCK_H)
    pixel = tl.arange(0, BLOCK_H * BLOCK_W)
    row = tile // across % down * BLOCK_H + pixel // BLOCK_W
    column = tile % across * BLOCK_W + pixel % BLOCK_W
    plane = tile // across // down
    # As a block: the interpreter does not take the comparison of a scalar as a mask.
    place = plane % depth + tl.zeros_like(row), row, column
    return (plane // depth).to(tl.int64), head.to(tl.int64), place, (row < height) & (column < width)


@triton.jit
def axis_start(place, size, AXIS: tl.constexpr):
    """Place of the window's first tap along one axis; outside the map for the borders that do not clamp."""
    K: tl.constexpr = AXIS[0]
    DILATION: tl.constexpr = AXIS[1]
    if AXIS[2] == CLAMP:
        remainder = place % DILATION
        length = (size - remainder + DILATION - 1) // DILATION
        first = tl.maximum(tl.minimum(place // DILATION - K // 2, length - K), 0)
        start = first * DILATION + remainder
    else:
        start = place - K // 2 * DILATION
    return start


@triton.jit
def window_start(place, size, AXES: tl.constexpr):
    """Place of the window's first tap."""
    return (
        axis_start(place[0], size[0], AXES[0]),
        axis_start(place[1], size[1], AXES[1]),
        axis_start(place[2], size[2], AXES[2]),
    )


@triton.jit
def tap_of(line, column, rows, AXES: tl.constexpr):
    """A tap's plane, row and column, from the number of its line among those of so many rows a plane."""
    return (0, line, column) if AXES[0][0] == 1 else (line // rows, line % rows, column)


@triton.jit
def on_axis(place, size):
    """Whether a place is on the map."""
    return (place >= 0) & (place < size)


@triton.jit
def reads(valid, start, tap, size, AXES: tl.constexpr):
    """Whether a tap of valid positions reads the map."""
    if AXES[0][0] > 1 and AXES[0][2] != WRAP:
        valid = valid & on_axis(start[0] + tap[0] * AXES[0][1], size[0])
    if AXES[1][0] > 1 and AXES[1][2] != WRAP:
        valid = valid & on_axis(start[1] + tap[1] * AXES[1][1], size[1])
    if AXES[2][0] > 1 and AXES[2][2] != WRAP:
        valid = valid & on_axis(start[2] + tap[2] * AXES[2][1], size[2])
    return valid


@triton.jit
def counts(valid, start, tap, size, AXES: tl.constexpr):
    """Whether a tap of valid positions takes part in the softmax: no axis leaves it out."""
    if AXES[0][2] == MASK or AXES[0][2] == CLAMP:
        valid = valid & on_axis(start[0] + tap[0] * AXES[0][1], size[0])
    if AXES[1][2] == MASK or AXES[1][2] == CLAMP:
        valid = valid & on_axis(start[1] + tap[1] * AXES[1][1], size[1])
    if AXES[2][2] == MASK or AXES[2][2] == CLAMP:
        valid = valid & on_axis(start[2] + tap[2] * AXES[2][1], size[2])
    return valid


@triton.jit
def offset_of(batch, head, place, strides):
    """Offsets of positions, in elements from the start of the map: int64, (P,)."""
    start = batch * strides[0] + head * strides[4] + place[0].to(tl.int64) * strides[1]
    return start + place[1].to(tl.int64) * strides[2] + place[2].to(tl.int64) * strides[3]


@triton.jit
def position_of(batch, head, place, size, heads):
    """Number of a position and head in a dense (B, Z, H, W, G) tensor: int64, (P,)."""
    return (((batch * size[0] + place[0]) * size[1] + place[1]) * size[2] + place[2]) * heads + head


@triton.jit
def dense_strides(size, each):
    """Strides of a dense (B, Z, H, W, each) tensor."""
    row = wide(size[2]) * each
    return row * size[1] * size[0], row * size[1], row, wide(each)


@triton.jit
def way(tap, strides, AXES: tl.constexpr):
    """The way from the first tap to another one, in elements: one number for all positions."""
    one = tl.full((), 1, tl.int64)
    steps = tap[2] * (one * strides[3] * AXES[2][1])
    if AXES[1][0] > 1:
        steps = tap[1] * (one * strides[2] * AXES[1][1]) + steps
    if AXES[0][0] > 1:
        steps = tap[0] * (one * strides[1] * AXES[0][1]) + steps
    return steps


@triton.jit
def once_around(place, size, stride):
    """The way back onto a periodic axis, in elements, of a place one turn off it at most; 0 on the axis."""
    return tl.where(place < 0, size, tl.where(place < size, 0, -size)).to(tl.int64) * stride


@triton.jit
def around(offset, start, tap, size, strides, AXES: tl.constexpr):
    """The offset of the first tap, moved by what periodic axes move another tap."""
    if AXES[0][2] == WRAP:
        offset += once_around(start[0] + tap[0] * AXES[0][1], size[0], strides[1])
    if AXES[1][2] == WRAP:
        offset += once_around(start[1] + tap[1] * AXES[1][1], size[1], strides[2])
    if AXES[2][2] == WRAP:
        offset += once_around(start[2] + tap[2] * AXES[2][1], size[2], strides[3])
    return offset


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
def load_tap(
    pointer, offset, strides, start, tap, size, valid, first,
    CHANNELS: tl.constexpr, BLOCK: tl.constexpr, AXES: tl.constexpr,
):  # fmt: skip
    """Some channels of what a tile sees at a tap, from the offset of its first taps: (P, BLOCK)."""
    if AXES[0][2] == WRAP or AXES[1][2] == WRAP or AXES[2][2] == WRAP:
        offset = around(offset, start, tap, size, strides, AXES)
    return load_tile(pointer + way(tap, strides, AXES), offset, valid, strides[5], first, CHANNELS, BLOCK)


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
