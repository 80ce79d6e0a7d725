# SPDX-License-Identifier: Apache-2.0
"""Attention through a deformed shift: one program a tile of positions of one head, everything in registers.

Logits are kept in powers of two (``log2(e)`` folded into the factors), as the device has exp2.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slideformer.ops.triton.taps import (
    LOG2E,
    UNROLLED,
    kernel,
    load_tap,
    load_tile,
    matmul,
    offset_of,
    position_of,
    reads,
    rows_turned,
    rows_turned_back,
    store_tile,
    tap_of,
    tile_of_program,
    times,
    turned,
    turned_back,
    window_start,
)


@triton.jit
def pack_shift(
    weight, bias, key_bias, packed, D, T, BLOCK: tl.constexpr, T_PAD: tl.constexpr, TURN: tl.constexpr
):
    """Lay the shift out as one (channels x output taps) matrix an input tap: (T + 1 + G, D', T').

    After the taps comes the bias of the values, and for each head that of its keys. Channels are in the
    order of `turned`; padding is zero.
    """
    source, chunk = tl.program_id(0), tl.program_id(1)
    place = tl.arange(0, BLOCK)
    channel = place
    if TURN:
        channel = place // 2 % 4 * 8 + place // 8 * 2 + place % 2
    channel = (chunk * BLOCK + channel)[:, None]
    tap = tl.arange(0, T_PAD)[None, :]
    valid = (channel < D) & (tap < T)
    # As a block: the interpreter does not take the comparison of a scalar as a mask.
    number = source + tl.zeros_like(tap)
    x = tl.load(weight + (channel * T + tap) * T + number, mask=valid & (number < T), other=0.0)
    x = x.to(tl.float32)
    if bias is not None:
        x += tl.load(bias + channel * T + tap, mask=valid & (number >= T), other=0.0).to(tl.float32)
    if key_bias is not None:
        of_head = key_bias + (number - T - 1) * T + tap
        x += tl.load(of_head, mask=valid & (number > T), other=0.0).to(tl.float32)
    row = (source * tl.num_programs(1) + chunk) * BLOCK + place
    tl.store(packed + row[:, None] * T_PAD + tap, x.to(packed.dtype.element_ty))


@triton.jit
def matrix_of(
    packed, tap, chunk: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr, T_PAD: tl.constexpr
):
    """The (BLOCK x T_PAD) matrix of one input tap and chunk of channels."""
    row = (tap * CHUNKS + chunk) * BLOCK + tl.arange(0, BLOCK)
    return tl.load(packed + row[:, None] * T_PAD + tl.arange(0, T_PAD)[None, :])


@triton.jit
def shifted_logits(
    x, pointer, offset, strides, start, size, inside, packed, bias, logits,
    chunk: tl.constexpr, D: tl.constexpr, AXES: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
    T_PAD: tl.constexpr, TURN: tl.constexpr, PRECISION: tl.constexpr, WARPS: tl.constexpr,
):  # fmt: skip
    """Add ``sum_u (x * m_u) W_u + x b`` of one chunk of channels: (P, BLOCK) -> (P, T_PAD).

    ``bias`` is the number of b among the packed matrices, or None.
    """
    KH: tl.constexpr = AXES[1][0]
    KW: tl.constexpr = AXES[2][0]
    LINES: tl.constexpr = AXES[0][0] * KH
    for line in tl.range(LINES, num_stages=1):
        for j in (tl.static_range if KW <= UNROLLED or LINES > 1 else tl.range)(KW):
            tap = tap_of(line, j, KH, AXES)
            valid = reads(inside, start, tap, size, AXES)
            seen = load_tap(pointer, offset, strides, start, tap, size, valid, chunk * BLOCK, D, BLOCK, AXES)
            matrix = matrix_of(packed, line * KW + j, chunk, CHUNKS, BLOCK, T_PAD)
            logits = matmul(times(x, turned(seen, TURN, WARPS)), matrix, logits, PRECISION)
    if bias is not None:
        matrix = matrix_of(packed, bias, chunk, CHUNKS, BLOCK, T_PAD)
        logits = matmul(x, matrix, logits, PRECISION)
    return logits


@triton.jit
def spread(
    y, pointer, offset, strides, start, size, inside, packed, bias,
    chunk: tl.constexpr, D: tl.constexpr, AXES: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
    T_PAD: tl.constexpr, TURN: tl.constexpr, PRECISION: tl.constexpr, WARPS: tl.constexpr,
):  # fmt: skip
    """``sum_u (y W_u^T) * m_u + y b^T`` for one chunk of channels: (P, T_PAD) -> (P, BLOCK), float32."""
    KH: tl.constexpr = AXES[1][0]
    KW: tl.constexpr = AXES[2][0]
    LINES: tl.constexpr = AXES[0][0] * KH
    total = tl.zeros((y.shape[0], BLOCK), tl.float32)
    if bias is not None:
        matrix = matrix_of(packed, bias, chunk, CHUNKS, BLOCK, T_PAD)
        total = matmul(y, tl.trans(matrix), total, PRECISION)
    for line in tl.range(LINES, num_stages=1):
        for j in (tl.static_range if KW <= UNROLLED or LINES > 1 else tl.range)(KW):
            tap = tap_of(line, j, KH, AXES)
            valid = reads(inside, start, tap, size, AXES)
            seen = load_tap(pointer, offset, strides, start, tap, size, valid, chunk * BLOCK, D, BLOCK, AXES)
            matrix = matrix_of(packed, line * KW + j, chunk, CHUNKS, BLOCK, T_PAD)
            factor = matmul(y, tl.trans(matrix), None, PRECISION)
            total += factor * turned(seen, TURN, WARPS).to(tl.float32)
    return total


@triton.jit
def finished_logits(logits, logit_bias, head, scale, T: tl.constexpr, T_PAD: tl.constexpr):
    """Scale the logits to powers of two, add their bias and leave out the taps that only pad: (P, T_PAD)."""
    tap = tl.arange(0, T_PAD)
    logits *= scale * LOG2E
    if logit_bias is not None:
        bias = tl.load(logit_bias + head * T + tap, mask=tap < T, other=0.0).to(tl.float32)
        logits += (bias * LOG2E)[None, :]
    return tl.where((tap < T)[None, :], logits, -float("inf"))


@triton.jit
def softmax2(logits):
    """Softmax over the taps of logits in powers of two: (P, T_PAD)."""
    weights = tl.exp2(logits - tl.max(logits, 1)[:, None])
    return weights / tl.sum(weights, 1)[:, None]


@kernel
def forward_deformed(
    query, query_strides, key, key_strides, value, value_strides, packed, logit_bias, output,
    depth, height, width, heads, scale, size_class,
    D: tl.constexpr, AXES: tl.constexpr, T_PAD: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
    TURN: tl.constexpr, KEY_BIAS: tl.constexpr, VALUE_BIAS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr, WARPS: tl.constexpr,
):  # fmt: skip
    """Attention through a deformed shift: two matrix products an input tap, for the logits and the output."""
    T: tl.constexpr = AXES[0][0] * AXES[1][0] * AXES[2][0]
    batch, head, place, inside = tile_of_program(depth, height, width, heads, BLOCK_H, BLOCK_W)
    size = depth, height, width
    start = window_start(place, size, AXES)
    query_offset = offset_of(batch, head, place, query_strides)
    key_offset = offset_of(batch, head, start, key_strides)

    logits = tl.zeros((BLOCK_H * BLOCK_W, T_PAD), tl.float32)
    key_bias = T + 1 + head if KEY_BIAS else None
    value_bias = T if VALUE_BIAS else None
    for chunk in tl.static_range(CHUNKS):
        q = load_tile(query, query_offset, inside, query_strides[5], chunk * BLOCK, D, BLOCK)
        q = turned(q, TURN, WARPS)
        logits = shifted_logits(
            q, key, key_offset, key_strides, start, size, inside, packed, key_bias, logits,
            chunk, D, AXES, CHUNKS, BLOCK, T_PAD, TURN, PRECISION, WARPS,
        )  # fmt: skip
    weights = softmax2(finished_logits(logits, logit_bias, head, scale, T, T_PAD))
    weights = weights.to(packed.dtype.element_ty)

    value_offset = offset_of(batch, head, start, value_strides)
    dense = position_of(batch, head, place, size, heads) * D
    for chunk in tl.static_range(CHUNKS):
        total = spread(
            weights, value, value_offset, value_strides, start, size, inside, packed, value_bias,
            chunk, D, AXES, CHUNKS, BLOCK, T_PAD, TURN, PRECISION, WARPS,
        )  # fmt: skip
        total = turned_back(total.to(output.dtype.element_ty), TURN, WARPS)
        store_tile(output, dense, inside, total, chunk * BLOCK, D, BLOCK)


@kernel
def logits_deformed(
    query, query_strides, key, key_strides, packed, logit_bias, output,
    depth, height, width, heads, scale, size_class,
    D: tl.constexpr, AXES: tl.constexpr, T_PAD: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
    TURN: tl.constexpr, KEY_BIAS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr, WARPS: tl.constexpr,
):  # fmt: skip
    """The logits through a deformed shift alone, (B, Z, H, W, G, T)."""
    T: tl.constexpr = AXES[0][0] * AXES[1][0] * AXES[2][0]
    batch, head, place, inside = tile_of_program(depth, height, width, heads, BLOCK_H, BLOCK_W)
    size = depth, height, width
    start = window_start(place, size, AXES)
    query_offset = offset_of(batch, head, place, query_strides)
    key_offset = offset_of(batch, head, start, key_strides)

    logits = tl.zeros((BLOCK_H * BLOCK_W, T_PAD), tl.float32)
    key_bias = T + 1 + head if KEY_BIAS else None
    for chunk in tl.static_range(CHUNKS):
        q = load_tile(query, query_offset, inside, query_strides[5], chunk * BLOCK, D, BLOCK)
        q = turned(q, TURN, WARPS)
        logits = shifted_logits(
            q, key, key_offset, key_strides, start, size, inside, packed, key_bias, logits,
            chunk, D, AXES, CHUNKS, BLOCK, T_PAD, TURN, PRECISION, WARPS,
        )  # fmt: skip
    logits = finished_logits(logits, logit_bias, head, scale, T, T_PAD) / LOG2E
    position = position_of(batch, head, place, size, heads)
    store_tile(output, position * T, inside, rows_turned_back(logits, TURN, WARPS), 0, T, T_PAD)


@kernel
def values_deformed(
    weights, value, value_strides, packed, output, depth, height, width, heads, size_class,
    D: tl.constexpr, AXES: tl.constexpr, T_PAD: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
    TURN: tl.constexpr, KEY_BIAS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr, WARPS: tl.constexpr,
):  # fmt: skip
    """Sums of the shifted values with given weights, (B, Z, H, W, G, T'); their bias is that of the keys."""
    T: tl.constexpr = AXES[0][0] * AXES[1][0] * AXES[2][0]
    batch, head, place, inside = tile_of_program(depth, height, width, heads, BLOCK_H, BLOCK_W)
    size = depth, height, width
    start = window_start(place, size, AXES)
    value_offset = offset_of(batch, head, start, value_strides)
    position = position_of(batch, head, place, size, heads)
    a = rows_turned(load_tile(weights, position * T_PAD, inside, 1, 0, T_PAD, T_PAD), TURN, WARPS)
    bias = T + 1 + head if KEY_BIAS else None
    for chunk in tl.static_range(CHUNKS):
        total = spread(
            a, value, value_offset, value_strides, start, size, inside, packed, bias,
            chunk, D, AXES, CHUNKS, BLOCK, T_PAD, TURN, PRECISION, WARPS,
        )  # fmt: skip
        total = turned_back(total.to(output.dtype.element_ty), TURN, WARPS)
        store_tile(output, position * D, inside, total, chunk * BLOCK, D, BLOCK)
