# SPDX-License-Identifier: Apache-2.0
"""Gradients of attention through a deformed shift.

The first kernel computes the softmax again, the queries' gradient, and leaves the weights A and the logits'
gradient L, (B, H, W, G, T'), for the others: sums of the same form as the forward pass's, taken over the
queries that see a position (keys, values) or over all positions (the shift). Every sum has a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slideformer.ops.triton.forward_deformed import (
    finished_logits,
    matrix_of,
    shifted_logits,
    softmax2,
    spread,
)
from slideformer.ops.triton.taps import (
    WRAP,
    around,
    dense_strides,
    kernel,
    load_tap,
    load_tile,
    matmul,
    offset_of,
    on_axis,
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
    way,
    window_start,
)


@kernel
def backward_query_deformed(
    query, query_strides, key, key_strides, value, value_strides, grad, grad_strides,
    packed, logit_bias, grad_query, weights, grad_logits, partial_key_bias, partial_logit_bias,
    depth, height, width, heads, scale, size_class,
    D: tl.constexpr, AXES: tl.constexpr, T_PAD: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
    TURN: tl.constexpr, KEY_BIAS: tl.constexpr, VALUE_BIAS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr, WARPS: tl.constexpr,
):  # fmt: skip
    """Gradient of the queries, A and L times the scale, and each program's share of the biases' gradients."""
    T: tl.constexpr = AXES[0][0] * AXES[1][0] * AXES[2][0]
    batch, head, place, inside = tile_of_program(depth, height, width, heads, BLOCK_H, BLOCK_W)
    size = depth, height, width
    start = window_start(place, size, AXES)
    query_offset = offset_of(batch, head, place, query_strides)
    grad_offset = offset_of(batch, head, place, grad_strides)
    key_offset = offset_of(batch, head, start, key_strides)
    value_offset = offset_of(batch, head, start, value_strides)

    logits = tl.zeros((BLOCK_H * BLOCK_W, T_PAD), tl.float32)
    grad_a = tl.zeros((BLOCK_H * BLOCK_W, T_PAD), tl.float32)
    query_sum = tl.zeros((BLOCK_H * BLOCK_W,), tl.float32)
    key_bias = T + 1 + head if KEY_BIAS else None
    value_bias = T if VALUE_BIAS else None
    for chunk in tl.static_range(CHUNKS):
        q = load_tile(query, query_offset, inside, query_strides[5], chunk * BLOCK, D, BLOCK)
        q = turned(q, TURN, WARPS)
        if partial_key_bias is not None:
            query_sum += tl.sum(q.to(tl.float32), 1)
        logits = shifted_logits(
            q, key, key_offset, key_strides, start, size, inside, packed, key_bias, logits,
            chunk, D, AXES, CHUNKS, BLOCK, T_PAD, TURN, PRECISION, WARPS,
        )  # fmt: skip
        g = load_tile(grad, grad_offset, inside, grad_strides[5], chunk * BLOCK, D, BLOCK)
        g = turned(g, TURN, WARPS)
        grad_a = shifted_logits(
            g, value, value_offset, value_strides, start, size, inside, packed, value_bias, grad_a,
            chunk, D, AXES, CHUNKS, BLOCK, T_PAD, TURN, PRECISION, WARPS,
        )  # fmt: skip
    a = softmax2(finished_logits(logits, logit_bias, head, scale, T, T_PAD))
    # Not scaled yet: this is the logit bias's gradient.
    grad_l = a * (grad_a - tl.sum(a * grad_a, 1)[:, None])

    tap = tl.arange(0, T_PAD)
    position = position_of(batch, head, place, size, heads)
    share = tl.program_id(0).to(tl.int64) * T + tap
    if partial_logit_bias is not None:
        tl.store(partial_logit_bias + share, tl.sum(grad_l, 0), mask=tap < T)
    grad_l *= scale
    if partial_key_bias is not None:
        tl.store(partial_key_bias + share, tl.sum(grad_l * query_sum[:, None], 0), mask=tap < T)
    dtype: tl.constexpr = packed.dtype.element_ty
    a_and_l = position[:, None] * T_PAD + tap[None, :]
    grad_l = grad_l.to(dtype)
    tl.store(weights + a_and_l, rows_turned_back(a.to(dtype), TURN, WARPS), mask=inside[:, None])
    tl.store(grad_logits + a_and_l, rows_turned_back(grad_l, TURN, WARPS), mask=inside[:, None])

    for chunk in tl.static_range(CHUNKS):
        total = spread(
            grad_l, key, key_offset, key_strides, start, size, inside, packed, key_bias,
            chunk, D, AXES, CHUNKS, BLOCK, T_PAD, TURN, PRECISION, WARPS,
        )  # fmt: skip
        grad_q = turned_back(total.to(grad_query.dtype.element_ty), TURN, WARPS)
        store_tile(grad_query, position * D, inside, grad_q, chunk * BLOCK, D, BLOCK)


@kernel
def backward_map_deformed(
    query, query_strides, grad, grad_strides, packed, weights, grad_logits, grad_key, grad_value,
    depth, height, width, heads, size_class,
    D: tl.constexpr, AXES: tl.constexpr, T_PAD: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
    TURN: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr, WARPS: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values, ``sum_u (L W_u^T) * q`` and ``sum_u (A W_u^T) * grad`` at ``p - d_u``.

    Where query is None, of values alone.
    """
    KH: tl.constexpr = AXES[1][0]
    KW: tl.constexpr = AXES[2][0]
    LINES: tl.constexpr = AXES[0][0] * KH
    batch, head, place, inside = tile_of_program(depth, height, width, heads, BLOCK_H, BLOCK_W)
    size = depth, height, width
    first = window_start(place, size, AXES)
    if query is not None:
        query_offset = offset_of(batch, head, first, query_strides)
    grad_offset = offset_of(batch, head, first, grad_strides)
    position, strides = position_of(batch, head, first, size, heads), dense_strides(size, heads)
    dense = position_of(batch, head, place, size, heads) * D

    for chunk in tl.static_range(CHUNKS):
        grad_k = tl.zeros((BLOCK_H * BLOCK_W, BLOCK), tl.float32)
        grad_v = tl.zeros((BLOCK_H * BLOCK_W, BLOCK), tl.float32)
        for line in tl.range(LINES, num_stages=1):
            for j in tl.range(KW, num_stages=1):
                step = tap_of(line, j, KH, AXES)
                valid = reads(inside, first, step, size, AXES)
                # The query on one side of a position sees it by the tap on the other side.
                matrix = matrix_of(packed, LINES * KW - 1 - (line * KW + j), chunk, CHUNKS, BLOCK, T_PAD)
                at = around(position, first, step, size, strides, AXES) + way(step, strides, AXES)
                a = load_tile(weights, at * T_PAD, valid, 1, 0, T_PAD, T_PAD)
                g = load_tap(
                    grad, grad_offset, grad_strides, first, step, size, valid, chunk * BLOCK, D, BLOCK, AXES
                )
                factor = matmul(rows_turned(a, TURN, WARPS), tl.trans(matrix), None, PRECISION)
                grad_v += factor * turned(g, TURN, WARPS).to(tl.float32)
                if query is not None:
                    grad_l = load_tile(grad_logits, at * T_PAD, valid, 1, 0, T_PAD, T_PAD)
                    q = load_tap(
                        query,
                        query_offset,
                        query_strides,
                        first,
                        step,
                        size,
                        valid,
                        chunk * BLOCK,
                        D,
                        BLOCK,
                        AXES,
                    )
                    factor = matmul(rows_turned(grad_l, TURN, WARPS), tl.trans(matrix), None, PRECISION)
                    grad_k += factor * turned(q, TURN, WARPS).to(tl.float32)
        if query is not None:
            grad_k = turned_back(grad_k.to(grad_key.dtype.element_ty), TURN, WARPS)
            store_tile(grad_key, dense, inside, grad_k, chunk * BLOCK, D, BLOCK)
        grad_v = turned_back(grad_v.to(grad_value.dtype.element_ty), TURN, WARPS)
        store_tile(grad_value, dense, inside, grad_v, chunk * BLOCK, D, BLOCK)


@triton.jit
def line_of_taps(
    pointer, offset, strides, start, size, valid,
    first, D: tl.constexpr, AXES: tl.constexpr, KW_PAD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The map seen through a line of taps, and ones in the place after the last: (P, KW_PAD, BLOCK).

    Valid are positions whose line is on the map.
    """
    KW: tl.constexpr = AXES[2][0]
    column, channel = tl.arange(0, KW_PAD)[None, :], first + tl.arange(0, BLOCK)[None, None, :]
    tap, start = (0, 0, column), (start[0][:, None], start[1][:, None], start[2][:, None])
    seen = valid[:, None] & (column < KW)
    if AXES[2][2] != WRAP:
        seen = seen & on_axis(start[2] + column * AXES[2][1], size[2])
    place = around(offset[:, None], start, tap, size, strides, AXES) + way(tap, strides, AXES)
    mask = seen[:, :, None]
    if D % BLOCK != 0:
        mask = mask & (channel < D)
    x = tl.load(pointer + place[:, :, None] + channel * strides[5], mask=mask, other=0.0)
    # The ones make the sums over this place the bias's gradient.
    return tl.where((column == KW)[:, :, None], 1.0, x.to(tl.float32)).to(x.dtype)


@kernel
def backward_shift(
    query, query_strides, key, key_strides, value, value_strides, grad, grad_strides,
    weights, grad_logits, partial, depth, height, width, heads, planes, parts,
    D: tl.constexpr, AXES: tl.constexpr, T_PAD: tl.constexpr, KW_PAD: tl.constexpr, CHUNKS: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Each program's share of the shift's gradient, ``sum_p A (grad * v_u) + L (q * k_u)``.

    A program takes one row of taps, one chunk of channels and every ``parts``-th run of positions and heads;
    it leaves (T', KW', BLOCK) numbers, the column KW of which belongs to the shift's bias. Where query
    is None, the share is that of the values alone.
    """
    KH: tl.constexpr = AXES[1][0]
    LINES: tl.constexpr = AXES[0][0] * KH
    program, size = tl.program_id(0), (depth, height, width)
    chunk, number, part = program % CHUNKS, program // CHUNKS % LINES, program // CHUNKS // LINES
    line, first = tap_of(number, 0, KH, AXES), chunk * BLOCK
    each = height * width * heads
    blocks = tl.cdiv(each, PIXELS)
    tap = tl.arange(0, T_PAD)
    total = tl.zeros((T_PAD, KW_PAD * BLOCK), tl.float32)
    for block in tl.range(part, blocks * planes, parts, num_stages=1):
        plane = (block // blocks).to(tl.int64)
        pixel = block % blocks * PIXELS + tl.arange(0, PIXELS)
        inside = pixel < each
        batch, head = plane // depth, (pixel % heads).to(tl.int64)
        place = plane % depth + tl.zeros_like(pixel), pixel // heads // width, pixel // heads % width
        start = window_start(place, size, AXES)
        start = start[0] + line[0] * AXES[0][1], start[1] + line[1] * AXES[1][1], start[2]
        valid = inside
        if AXES[0][0] > 1 and AXES[0][2] != WRAP:
            valid = valid & on_axis(start[0], depth)
        if KH > 1 and AXES[1][2] != WRAP:
            valid = valid & on_axis(start[1], height)
        position = (plane * each + pixel) * T_PAD
        a = load_tile(weights, position, inside, 1, 0, T_PAD, T_PAD)
        if query is not None:
            grad_l = load_tile(grad_logits, position, inside, 1, 0, T_PAD, T_PAD)
        g = load_tile(
            grad, offset_of(batch, head, place, grad_strides), inside, grad_strides[5], first, D, BLOCK
        )
        v = line_of_taps(
            value, offset_of(batch, head, start, value_strides), value_strides, start, size, valid,
            first, D, AXES, KW_PAD, BLOCK,
        )  # fmt: skip
        product = times(g[:, None, :], v).reshape(PIXELS, KW_PAD * BLOCK)
        total = matmul(tl.trans(a), product, total, PRECISION)
        if query is not None:
            q = load_tile(
                query, offset_of(batch, head, place, query_strides), inside, query_strides[5], first, D, BLOCK
            )
            k = line_of_taps(
                key, offset_of(batch, head, start, key_strides), key_strides, start, size, valid,
                first, D, AXES, KW_PAD, BLOCK,
            )  # fmt: skip
            product = times(q[:, None, :], k).reshape(PIXELS, KW_PAD * BLOCK)
            total = matmul(tl.trans(grad_l), product, total, PRECISION)
    share = program.to(tl.int64) * (T_PAD * KW_PAD * BLOCK)
    channel = tl.arange(0, KW_PAD * BLOCK)
    tl.store(partial + share + tap[:, None] * (KW_PAD * BLOCK) + channel[None, :], total)
