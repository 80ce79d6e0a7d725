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
    UNSPECIALISED,
    load_tile,
    matmul,
    offset_of,
    on_axis,
    position_of,
    rows_turned,
    rows_turned_back,
    store_tile,
    tile_of_program,
    times,
    turned,
    turned_back,
    wide,
)


@triton.jit(do_not_specialize=UNSPECIALISED)
def backward_query_deformed(
    query, query_strides, key, key_strides, value, value_strides, grad, grad_strides,
    packed, logit_bias, grad_query, weights, grad_logits, partial_key_bias, partial_logit_bias,
    height, width, heads, scale, size_class,
    D: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    T_PAD: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr, TURN: tl.constexpr,
    KEY_BIAS: tl.constexpr, VALUE_BIAS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr, WARPS: tl.constexpr,
):  # fmt: skip
    """Gradient of the queries, A and L times the scale, and each program's share of the biases' gradients."""
    T: tl.constexpr = KH * KW
    batch, head, y, x, inside = tile_of_program(height, width, heads, BLOCK_H, BLOCK_W)
    row, column = y - KH // 2 * DILATION_H, x - KW // 2 * DILATION_W
    query_offset = offset_of(batch, head, y, x, query_strides)
    grad_offset = offset_of(batch, head, y, x, grad_strides)
    key_offset = offset_of(batch, head, row, column, key_strides)
    value_offset = offset_of(batch, head, row, column, value_strides)

    logits = tl.zeros((BLOCK_H * BLOCK_W, T_PAD), tl.float32)
    grad_a = tl.zeros((BLOCK_H * BLOCK_W, T_PAD), tl.float32)
    query_sum = tl.zeros((BLOCK_H * BLOCK_W,), tl.float32)
    key_bias = T + 1 + head if KEY_BIAS else None
    value_bias = T if VALUE_BIAS else None
    for chunk in tl.static_range(CHUNKS):
        q = load_tile(query, query_offset, inside, query_strides[4], chunk * BLOCK, D, BLOCK)
        q = turned(q, TURN, WARPS)
        if partial_key_bias is not None:
            query_sum += tl.sum(q.to(tl.float32), 1)
        logits = shifted_logits(
            q, key, key_offset, key_strides, row, column, inside, height, width, packed, key_bias, logits,
            chunk, D, KH, KW, DILATION_H, DILATION_W, CHUNKS, BLOCK, T_PAD, TURN, PRECISION, WARPS,
        )  # fmt: skip
        g = load_tile(grad, grad_offset, inside, grad_strides[4], chunk * BLOCK, D, BLOCK)
        g = turned(g, TURN, WARPS)
        grad_a = shifted_logits(
            g, value, value_offset, value_strides, row, column, inside, height, width, packed, value_bias,
            grad_a, chunk, D, KH, KW, DILATION_H, DILATION_W, CHUNKS, BLOCK, T_PAD, TURN, PRECISION, WARPS,
        )  # fmt: skip
    a = softmax2(finished_logits(logits, logit_bias, head, scale, T, T_PAD))
    # Not scaled yet: this is the logit bias's gradient.
    grad_l = a * (grad_a - tl.sum(a * grad_a, 1)[:, None])

    tap = tl.arange(0, T_PAD)
    position = position_of(batch, head, y, x, height, width, heads)
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
            grad_l, key, key_offset, key_strides, row, column, inside, height, width, packed, key_bias,
            chunk, D, KH, KW, DILATION_H, DILATION_W, CHUNKS, BLOCK, T_PAD, TURN, PRECISION, WARPS,
        )  # fmt: skip
        grad_q = turned_back(total.to(grad_query.dtype.element_ty), TURN, WARPS)
        store_tile(grad_query, position * D, inside, grad_q, chunk * BLOCK, D, BLOCK)


@triton.jit(do_not_specialize=UNSPECIALISED)
def backward_map_deformed(
    query, query_strides, grad, grad_strides, packed, weights, grad_logits, grad_key, grad_value,
    height, width, heads, size_class,
    D: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    T_PAD: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr, TURN: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr, WARPS: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values, ``sum_u (L W_u^T) * q`` and ``sum_u (A W_u^T) * grad`` at ``p - d_u``."""
    batch, head, y, x, inside = tile_of_program(height, width, heads, BLOCK_H, BLOCK_W)
    row, column = y - KH // 2 * DILATION_H, x - KW // 2 * DILATION_W
    query_offset = offset_of(batch, head, row, column, query_strides)
    grad_offset = offset_of(batch, head, row, column, grad_strides)
    position = position_of(batch, head, row, column, height, width, heads)
    query_down, query_across = wide(query_strides[1]) * DILATION_H, wide(query_strides[2]) * DILATION_W
    grad_down, grad_across = wide(grad_strides[1]) * DILATION_H, wide(grad_strides[2]) * DILATION_W
    down, across = wide(width) * heads * DILATION_H, wide(heads) * DILATION_W
    dense = position_of(batch, head, y, x, height, width, heads) * D

    for chunk in tl.static_range(CHUNKS):
        grad_k = tl.zeros((BLOCK_H * BLOCK_W, BLOCK), tl.float32)
        grad_v = tl.zeros((BLOCK_H * BLOCK_W, BLOCK), tl.float32)
        for i in tl.range(KH, num_stages=1):
            row_inside = inside & on_axis(row + i * DILATION_H, height)
            for j in tl.range(KW, num_stages=1):
                valid = row_inside & on_axis(column + j * DILATION_W, width)
                # The query on one side of a position sees it by the tap on the other side.
                matrix = matrix_of(packed, KH * KW - 1 - (i * KW + j), chunk, CHUNKS, BLOCK, T_PAD)
                place = position + (i * down + j * across)
                a = load_tile(weights, place * T_PAD, valid, 1, 0, T_PAD, T_PAD)
                g = load_tile(
                    grad + (i * grad_down + j * grad_across),
                    grad_offset, valid, grad_strides[4], chunk * BLOCK, D, BLOCK,
                )  # fmt: skip
                factor = matmul(rows_turned(a, TURN, WARPS), tl.trans(matrix), None, PRECISION)
                grad_v += factor * turned(g, TURN, WARPS).to(tl.float32)
                grad_l = load_tile(grad_logits, place * T_PAD, valid, 1, 0, T_PAD, T_PAD)
                q = load_tile(
                    query + (i * query_down + j * query_across),
                    query_offset, valid, query_strides[4], chunk * BLOCK, D, BLOCK,
                )  # fmt: skip
                factor = matmul(rows_turned(grad_l, TURN, WARPS), tl.trans(matrix), None, PRECISION)
                grad_k += factor * turned(q, TURN, WARPS).to(tl.float32)
        grad_k = turned_back(grad_k.to(grad_key.dtype.element_ty), TURN, WARPS)
        grad_v = turned_back(grad_v.to(grad_value.dtype.element_ty), TURN, WARPS)
        store_tile(grad_key, dense, inside, grad_k, chunk * BLOCK, D, BLOCK)
        store_tile(grad_value, dense, inside, grad_v, chunk * BLOCK, D, BLOCK)


@triton.jit
def row_of_taps(
    pointer, offset, step, channel_stride, valid, column, width,
    first: tl.constexpr, D: tl.constexpr, KW: tl.constexpr, KW_PAD: tl.constexpr,
    DILATION_W: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The map seen through one row of taps, and ones in the place after the last: (P, KW_PAD, BLOCK)."""
    tap, channel = tl.arange(0, KW_PAD)[None, :], first + tl.arange(0, BLOCK)[None, None, :]
    seen = valid[:, None] & on_axis(column[:, None] + tap * DILATION_W, width) & (tap < KW)
    place = offset[:, None] + tap * step
    mask = seen[:, :, None]
    if D % BLOCK != 0:
        mask = mask & (channel < D)
    x = tl.load(pointer + place[:, :, None] + channel * channel_stride, mask=mask, other=0.0)
    # The ones make the sums over this place the bias's gradient.
    return tl.where((tap == KW)[:, :, None], 1.0, x.to(tl.float32)).to(x.dtype)


@triton.jit(do_not_specialize=UNSPECIALISED)
def backward_shift(
    query, query_strides, key, key_strides, value, value_strides, grad, grad_strides,
    weights, grad_logits, partial, height, width, heads, batches, parts,
    D: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
    T_PAD: tl.constexpr, KW_PAD: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
    PRECISION: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """Each program's share of the shift's gradient, ``sum_p A (grad * v_u) + L (q * k_u)``.

    A program takes one row of taps, one chunk of channels and every ``parts``-th run of positions and heads;
    it leaves (T', KW', BLOCK) numbers, the column KW of which belongs to the shift's bias.
    """
    program = tl.program_id(0)
    chunk, i, part = program % CHUNKS, program // CHUNKS % KH, program // CHUNKS // KH
    first = chunk * BLOCK
    each = height * width * heads
    blocks = tl.cdiv(each, PIXELS)
    tap = tl.arange(0, T_PAD)
    total = tl.zeros((T_PAD, KW_PAD * BLOCK), tl.float32)
    for block in tl.range(part, blocks * batches, parts, num_stages=1):
        batch = (block // blocks).to(tl.int64)
        place = block % blocks * PIXELS + tl.arange(0, PIXELS)
        inside = place < each
        head, x, y = (place % heads).to(tl.int64), place // heads % width, place // heads // width
        position = (batch * each + place) * T_PAD
        row, column = y + (i - KH // 2) * DILATION_H, x - KW // 2 * DILATION_W
        valid = inside & on_axis(row, height)
        a = load_tile(weights, position, inside, 1, 0, T_PAD, T_PAD)
        grad_l = load_tile(grad_logits, position, inside, 1, 0, T_PAD, T_PAD)
        g = load_tile(
            grad, offset_of(batch, head, y, x, grad_strides), inside, grad_strides[4], first, D, BLOCK
        )
        v = row_of_taps(
            value, offset_of(batch, head, row, column, value_strides), wide(value_strides[2]) * DILATION_W,
            value_strides[4], valid, column, width, first, D, KW, KW_PAD, DILATION_W, BLOCK,
        )  # fmt: skip
        product = times(g[:, None, :], v).reshape(PIXELS, KW_PAD * BLOCK)
        total = matmul(tl.trans(a), product, total, PRECISION)
        q = load_tile(
            query, offset_of(batch, head, y, x, query_strides), inside, query_strides[4], first, D, BLOCK
        )
        k = row_of_taps(
            key, offset_of(batch, head, row, column, key_strides), wide(key_strides[2]) * DILATION_W,
            key_strides[4], valid, column, width, first, D, KW, KW_PAD, DILATION_W, BLOCK,
        )  # fmt: skip
        product = times(q[:, None, :], k).reshape(PIXELS, KW_PAD * BLOCK)
        total = matmul(tl.trans(grad_l), product, total, PRECISION)
    share = program.to(tl.int64) * (T_PAD * KW_PAD * BLOCK)
    channel = tl.arange(0, KW_PAD * BLOCK)
    tl.store(partial + share + tap[:, None] * (KW_PAD * BLOCK) + channel[None, :], total)
