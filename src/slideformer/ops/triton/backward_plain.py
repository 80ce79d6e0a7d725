# SPDX-License-Identifier: Apache-2.0
"""Gradients of attention without a deformed shift, from the forward pass's logarithms of sums.

With ``A_t = exp2(logit_t - log_sum)`` and ``delta = <grad, output>``, the logits' gradients are
``A_t (<grad, v_t> - delta)``: one walk over the taps gives those of queries and biases, another, over the
queries that see a position, those of keys and values. Every sum has a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slideformer.ops.triton.forward_plain import bias_of, logit_of
from slideformer.ops.triton.taps import (
    UNSPECIALISED,
    first_query,
    last_query,
    load_tile,
    offset_of,
    on_axis,
    position_of,
    store_tile,
    tap_seeing,
    tile_of_program,
    wide,
    window_start,
)


@triton.jit(do_not_specialize=UNSPECIALISED)
def backward_query_plain(
    query, query_strides, key, key_strides, value, value_strides, grad, grad_strides,
    shift_bias, key_bias, logit_bias, output, log_sum,
    grad_query, delta, grad_logits, partial_shift_bias, partial_key_bias, partial_logit_bias,
    height, width, heads, scale, size_class,
    D: tl.constexpr, DV: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr, ZEROS: tl.constexpr, CLAMP: tl.constexpr,
    RELATIVE: tl.constexpr, BLOCK: tl.constexpr, BLOCK_V: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Gradient of the queries, delta, and each program's share of the biases' gradients.

    ``grad_logits``, (B, H, W, G, T), and the shares are written where they are not None.
    """
    T: tl.constexpr = KH * KW
    batch, head, y, x, inside = tile_of_program(height, width, heads, BLOCK_H, BLOCK_W)
    row = window_start(y, height, KH, DILATION_H, CLAMP)
    column = window_start(x, width, KW, DILATION_W, CLAMP)
    key_offset = offset_of(batch, head, row, column, key_strides)
    value_offset = offset_of(batch, head, row, column, value_strides)
    key_down, key_across = wide(key_strides[1]) * DILATION_H, wide(key_strides[2]) * DILATION_W
    value_down, value_across = wide(value_strides[1]) * DILATION_H, wide(value_strides[2]) * DILATION_W
    position = position_of(batch, head, y, x, height, width, heads)

    query_offset = offset_of(batch, head, y, x, query_strides)
    q = load_tile(query, query_offset, inside, query_strides[4], 0, D, BLOCK).to(tl.float32)
    grad_offset = offset_of(batch, head, y, x, grad_strides)
    g = load_tile(grad, grad_offset, inside, grad_strides[4], 0, DV, BLOCK_V).to(tl.float32)
    o = load_tile(output, position * DV, inside, 1, 0, DV, BLOCK_V).to(tl.float32)
    query_sum = tl.sum(q, 1)
    d = tl.sum(g * o, 1)
    tl.store(delta + position, d, mask=inside)
    # Infinite outside the map: weights are zero there.
    logarithm = tl.load(log_sum + position, mask=inside, other=float("inf"))

    share = tl.program_id(0).to(tl.int64) * T
    grad_q = tl.zeros((BLOCK_H * BLOCK_W, BLOCK), tl.float32)
    for i in tl.range(KH, num_stages=1):
        row_inside = inside & on_axis(row + i * DILATION_H, height)
        for j in tl.static_range(KW):
            valid = row_inside & on_axis(column + j * DILATION_W, width)
            k = load_tile(
                key + (i * key_down + j * key_across), key_offset, valid, key_strides[4], 0, D, BLOCK
            )
            v = load_tile(
                value + (i * value_down + j * value_across),
                value_offset,
                valid,
                value_strides[4],
                0,
                DV,
                BLOCK_V,
            )
            k, v = k.to(tl.float32), v.to(tl.float32)
            tap = i * KW + j
            if shift_bias is not None:
                bias = bias_of(shift_bias, tap, T, D, BLOCK)
                k, v = k + bias, v + bias
            distance = (row - y) // DILATION_H + i + KH - 1, (column - x) // DILATION_W + j + KW - 1
            logit = logit_of(
                tl.sum(q * k, 1), query_sum, key_bias, logit_bias, head, tap, distance[0], distance[1], scale,
                T, KH, KW, RELATIVE,
            )  # fmt: skip
            weight = tl.exp2(logit - logarithm)
            if not ZEROS:
                weight = tl.where(valid, weight, 0.0)
            grad_logit = weight * (tl.sum(g * v, 1) - d)
            if key_bias is not None:
                k += tl.load(key_bias + head * T + tap).to(tl.float32)
            grad_q += grad_logit[:, None] * k
            if grad_logits is not None:
                tl.store(grad_logits + position * T + tap, grad_logit, mask=inside)
            if partial_logit_bias is not None:
                tl.store(partial_logit_bias + share + tap, tl.sum(grad_logit, 0))
            if partial_key_bias is not None:
                tl.store(partial_key_bias + share + tap, tl.sum(grad_logit * query_sum, 0) * scale)
            if partial_shift_bias is not None:
                part = tl.sum(weight[:, None] * g + (grad_logit * scale)[:, None] * q, 0)
                channel = tl.arange(0, BLOCK)
                tl.store(partial_shift_bias + (share + tap) * D + channel, part, mask=channel < D)
    store_tile(grad_query, position * D, inside, grad_q * scale, 0, D, BLOCK)


@triton.jit(do_not_specialize=UNSPECIALISED)
def backward_map_plain(
    query, query_strides, key, key_strides, value, value_strides, grad, grad_strides,
    shift_bias, key_bias, logit_bias, log_sum, delta, grad_key, grad_value,
    height, width, heads, scale, size_class,
    D: tl.constexpr, DV: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr, CLAMP: tl.constexpr, RELATIVE: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values: each position gathers from the queries whose window holds it."""
    T: tl.constexpr = KH * KW
    batch, head, y, x, inside = tile_of_program(height, width, heads, BLOCK_H, BLOCK_W)
    k = load_tile(key, offset_of(batch, head, y, x, key_strides), inside, key_strides[4], 0, D, BLOCK)
    v = load_tile(
        value, offset_of(batch, head, y, x, value_strides), inside, value_strides[4], 0, DV, BLOCK_V
    )
    k, v = k.to(tl.float32), v.to(tl.float32)

    row, column = first_query(y, KH, DILATION_H, CLAMP), first_query(x, KW, DILATION_W, CLAMP)
    rows, columns = KH, KW
    if CLAMP:
        # Near the edges, where windows slide inward, a position is seen from farther away.
        last_row = last_query(y, height, KH, DILATION_H, CLAMP)
        last_column = last_query(x, width, KW, DILATION_W, CLAMP)
        rows = tl.max(tl.where(inside, (last_row - row) // DILATION_H + 1, 0), 0)
        columns = tl.max(tl.where(inside, (last_column - column) // DILATION_W + 1, 0), 0)
    query_offset = offset_of(batch, head, row, column, query_strides)
    grad_offset = offset_of(batch, head, row, column, grad_strides)
    position = position_of(batch, head, row, column, height, width, heads)
    query_down, query_across = wide(query_strides[1]) * DILATION_H, wide(query_strides[2]) * DILATION_W
    grad_down, grad_across = wide(grad_strides[1]) * DILATION_H, wide(grad_strides[2]) * DILATION_W
    down, across = wide(width) * heads * DILATION_H, wide(heads) * DILATION_W

    grad_k = tl.zeros((BLOCK_H * BLOCK_W, BLOCK), tl.float32)
    grad_v = tl.zeros((BLOCK_H * BLOCK_W, BLOCK_V), tl.float32)
    for i in tl.range(rows, num_stages=1):
        query_row = row + i * DILATION_H
        row_seen = inside & on_axis(query_row, height)
        for j in tl.range(columns, num_stages=1):
            query_column = column + j * DILATION_W
            seen = row_seen & on_axis(query_column, width)
            if CLAMP:
                seen = seen & (query_row <= last_row) & (query_column <= last_column)
                tap_row, relative_row = tap_seeing(query_row, y, height, KH, DILATION_H, CLAMP)
                tap_column, relative_column = tap_seeing(query_column, x, width, KW, DILATION_W, CLAMP)
                tap = tl.where(seen, tap_row * KW + tap_column, 0)
            else:
                tap, relative_row, relative_column = (KH - 1 - i) * KW + KW - 1 - j, i, j
            q = load_tile(
                query + (i * query_down + j * query_across), query_offset, seen, query_strides[4], 0, D, BLOCK
            ).to(tl.float32)
            g = load_tile(
                grad + (i * grad_down + j * grad_across), grad_offset, seen, grad_strides[4], 0, DV, BLOCK_V
            ).to(tl.float32)
            place = position + (i * down + j * across)
            # Infinite where nothing sees: weights are zero there.
            logarithm = tl.load(log_sum + place, mask=seen, other=float("inf"))
            d = tl.load(delta + place, mask=seen, other=0.0)
            shifted_k, shifted_v = k, v
            if shift_bias is not None:
                bias = bias_of(shift_bias, tap, T, D, BLOCK)
                shifted_k, shifted_v = k + bias, v + bias
            logit = logit_of(
                tl.sum(q * shifted_k, 1), tl.sum(q, 1), key_bias, logit_bias, head, tap,
                relative_row, relative_column, scale, T, KH, KW, RELATIVE,
            )  # fmt: skip
            weight = tl.exp2(logit - logarithm)
            grad_logit = weight * (tl.sum(g * shifted_v, 1) - d)
            grad_k += grad_logit[:, None] * q
            grad_v += weight[:, None] * g
    position = position_of(batch, head, y, x, height, width, heads)
    store_tile(grad_key, position * D, inside, grad_k * scale, 0, D, BLOCK)
    store_tile(grad_value, position * DV, inside, grad_v, 0, DV, BLOCK_V)
