# SPDX-License-Identifier: Apache-2.0
"""Gradients of attention without a deformed shift, from the forward pass's logarithms of sums.

With ``A_t = exp2(logit_t - log_sum)`` and ``delta = <grad, output>``, the logits' gradients are
``A_t (<grad, v_t> - delta)``: one walk over the taps gives those of queries and biases, another, over the
queries that see a position, those of keys and values. Every sum has a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slideformer.ops.triton.forward_plain import bias_of, exists, logit_of, relative_to
from slideformer.ops.triton.taps import (
    CLAMP,
    UNROLLED,
    around,
    axis_start,
    counts,
    dense_strides,
    kernel,
    load_tap,
    load_tile,
    offset_of,
    position_of,
    reads,
    store_tile,
    tap_of,
    tile_of_program,
    way,
    window_start,
)


@kernel
def backward_query_plain(
    query, query_strides, key, key_strides, value, value_strides, grad, grad_strides,
    key_mask, shift_bias, key_bias, logit_bias, output, log_sum,
    grad_query, delta, grad_logits, partial_shift_bias, partial_key_bias, partial_logit_bias,
    depth, height, width, heads, scale, size_class,
    D: tl.constexpr, DV: tl.constexpr, AXES: tl.constexpr, EXCLUDES: tl.constexpr, RELATIVE: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Gradient of the queries, delta, and each program's share of the biases' gradients.

    ``grad_logits``, (B, Z, H, W, G, T), and the shares are written where they are not None.
    """
    KH: tl.constexpr = AXES[1][0]
    KW: tl.constexpr = AXES[2][0]
    LINES: tl.constexpr = AXES[0][0] * KH
    T: tl.constexpr = LINES * KW
    batch, head, place, inside = tile_of_program(depth, height, width, heads, BLOCK_H, BLOCK_W)
    size = depth, height, width
    start = window_start(place, size, AXES)
    key_offset = offset_of(batch, head, start, key_strides)
    value_offset = offset_of(batch, head, start, value_strides)
    position = position_of(batch, head, place, size, heads)
    if key_mask is not None:
        mask_strides = dense_strides(size, 1)
        mask_offset = position_of(batch, 0, start, size, 1)

    query_offset = offset_of(batch, head, place, query_strides)
    q = load_tile(query, query_offset, inside, query_strides[5], 0, D, BLOCK).to(tl.float32)
    grad_offset = offset_of(batch, head, place, grad_strides)
    g = load_tile(grad, grad_offset, inside, grad_strides[5], 0, DV, BLOCK_V).to(tl.float32)
    o = load_tile(output, position * DV, inside, 1, 0, DV, BLOCK_V).to(tl.float32)
    query_sum = tl.sum(q, 1)
    d = tl.sum(g * o, 1)
    tl.store(delta + position, d, mask=inside)
    # Infinite outside the map: weights are zero there.
    logarithm = tl.load(log_sum + position, mask=inside, other=float("inf"))

    share = tl.program_id(0).to(tl.int64) * T
    grad_q = tl.zeros((BLOCK_H * BLOCK_W, BLOCK), tl.float32)
    for line in tl.range(LINES, num_stages=1):
        for j in (tl.static_range if KW <= UNROLLED or LINES > 1 else tl.range)(KW):
            tap = tap_of(line, j, KH, AXES)
            valid = reads(inside, start, tap, size, AXES)
            k = load_tap(key, key_offset, key_strides, start, tap, size, valid, 0, D, BLOCK, AXES)
            v = load_tap(value, value_offset, value_strides, start, tap, size, valid, 0, DV, BLOCK_V, AXES)
            k, v = k.to(tl.float32), v.to(tl.float32)
            number = line * KW + j
            if shift_bias is not None:
                bias = bias_of(shift_bias, number, T, D, BLOCK)
                k, v = k + bias, v + bias
            relative = relative_to(place, start, tap, AXES) if RELATIVE else None
            logit = logit_of(
                tl.sum(q * k, 1), query_sum, key_bias, logit_bias, head, number, relative, scale,
                T, AXES, RELATIVE,
            )  # fmt: skip
            weight = tl.exp2(logit - logarithm)
            if EXCLUDES:
                counted = counts(inside, start, tap, size, AXES)
                if key_mask is not None:
                    counted &= exists(key_mask, mask_offset, mask_strides, start, tap, size, valid, AXES)
                weight = tl.where(counted, weight, 0.0)
            grad_logit = weight * (tl.sum(g * v, 1) - d)
            if key_bias is not None:
                k += tl.load(key_bias + head * T + number).to(tl.float32)
            grad_q += grad_logit[:, None] * k
            if grad_logits is not None:
                tl.store(grad_logits + position * T + number, grad_logit, mask=inside)
            if partial_logit_bias is not None:
                tl.store(partial_logit_bias + share + number, tl.sum(grad_logit, 0))
            if partial_key_bias is not None:
                tl.store(partial_key_bias + share + number, tl.sum(grad_logit * query_sum, 0) * scale)
            if partial_shift_bias is not None:
                part = tl.sum(weight[:, None] * g + (grad_logit * scale)[:, None] * q, 0)
                channel = tl.arange(0, BLOCK)
                tl.store(partial_shift_bias + (share + number) * D + channel, part, mask=channel < D)
    store_tile(grad_query, position * D, inside, grad_q * scale, 0, D, BLOCK)


@triton.jit
def first_on_axis(place, AXIS: tl.constexpr):
    """The first query, among those a dilation apart, whose window holds this place of one axis."""
    K: tl.constexpr = AXIS[0]
    DILATION: tl.constexpr = AXIS[1]
    if AXIS[2] == CLAMP:
        on_grid = place // DILATION
        query = tl.where(on_grid > K - 1, on_grid - K // 2, 0) * DILATION + place % DILATION
    else:
        query = place - K // 2 * DILATION
    return query


@triton.jit
def first_query(place, AXES: tl.constexpr):
    """The first query whose window holds this place."""
    return (
        first_on_axis(place[0], AXES[0]),
        first_on_axis(place[1], AXES[1]),
        first_on_axis(place[2], AXES[2]),
    )


@triton.jit
def last_on_axis(place, size, AXIS: tl.constexpr):
    """The last of the queries whose window holds this place of one axis."""
    K: tl.constexpr = AXIS[0]
    DILATION: tl.constexpr = AXIS[1]
    if AXIS[2] == CLAMP:
        remainder, on_grid = place % DILATION, place // DILATION
        length = (size - remainder + DILATION - 1) // DILATION
        query = tl.where(on_grid >= length - K, length - 1, on_grid + K // 2) * DILATION + remainder
    else:
        query = place + K // 2 * DILATION
    return query


@triton.jit
def last_query(place, size, AXES: tl.constexpr):
    """The last query whose window holds this place."""
    return (
        last_on_axis(place[0], size[0], AXES[0]),
        last_on_axis(place[1], size[1], AXES[1]),
        last_on_axis(place[2], size[2], AXES[2]),
    )


@triton.jit
def queries_along(first, last, inside, AXES: tl.constexpr):
    """Number of queries along each axis, a dilation apart, that a tile must look at."""
    planes, rows, columns = AXES[0][0], AXES[1][0], AXES[2][0]
    # Near the ends, where windows slide inward, a position is seen from farther away.
    if AXES[0][2] == CLAMP:
        planes = tl.max(tl.where(inside, (last[0] - first[0]) // AXES[0][1] + 1, 0), 0)
    if AXES[1][2] == CLAMP:
        rows = tl.max(tl.where(inside, (last[1] - first[1]) // AXES[1][1] + 1, 0), 0)
    if AXES[2][2] == CLAMP:
        columns = tl.max(tl.where(inside, (last[2] - first[2]) // AXES[2][1] + 1, 0), 0)
    return planes, rows, columns


@triton.jit
def seeing_on_axis(number, query, place, size, AXIS: tl.constexpr):
    """The tap by which the query of a number sees a place of one axis, and the distance + K - 1 in taps."""
    K: tl.constexpr = AXIS[0]
    DILATION: tl.constexpr = AXIS[1]
    if AXIS[2] == CLAMP:
        tap = (place - axis_start(query, size, AXIS)) // DILATION
        relative = (place - query + (K - 1) * DILATION) // DILATION
    else:
        tap = K - 1 - number
        relative = tap + K // 2
    return tap, relative


@triton.jit
def tap_seeing(seen, first, last, step, place, size, AXES: tl.constexpr):
    """Whether a query on the map sees a place, by which tap (0 if not), and the distances + K - 1 in taps."""
    z, y = first[0] + step[0] * AXES[0][1], first[1] + step[1] * AXES[1][1]
    x = first[2] + step[2] * AXES[2][1]
    seen = seen & (z <= last[0]) & (y <= last[1]) & (x <= last[2])
    plane, relative_plane = seeing_on_axis(step[0], z, place[0], size[0], AXES[0])
    row, relative_row = seeing_on_axis(step[1], y, place[1], size[1], AXES[1])
    column, relative_column = seeing_on_axis(step[2], x, place[2], size[2], AXES[2])
    tap = tl.where(seen, (plane * AXES[1][0] + row) * AXES[2][0] + column, 0)
    return seen, tap, (relative_plane, relative_row, relative_column)


@kernel
def backward_map_plain(
    query, query_strides, key, key_strides, value, value_strides, grad, grad_strides,
    key_mask, shift_bias, key_bias, logit_bias, log_sum, delta, grad_key, grad_value,
    depth, height, width, heads, scale, size_class,
    D: tl.constexpr, DV: tl.constexpr, AXES: tl.constexpr, CLAMPS: tl.constexpr, RELATIVE: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values: each position gathers from the queries whose window holds it."""
    KH: tl.constexpr = AXES[1][0]
    KW: tl.constexpr = AXES[2][0]
    T: tl.constexpr = AXES[0][0] * KH * KW
    batch, head, place, inside = tile_of_program(depth, height, width, heads, BLOCK_H, BLOCK_W)
    size = depth, height, width
    k = load_tile(key, offset_of(batch, head, place, key_strides), inside, key_strides[5], 0, D, BLOCK)
    v = load_tile(
        value, offset_of(batch, head, place, value_strides), inside, value_strides[5], 0, DV, BLOCK_V
    )
    k, v = k.to(tl.float32), v.to(tl.float32)
    visible = inside
    if key_mask is not None:
        visible &= tl.load(key_mask + position_of(batch, 0, place, size, 1), mask=inside, other=0) != 0

    first, last = first_query(place, AXES), last_query(place, size, AXES)
    planes, rows, columns = queries_along(first, last, inside, AXES)
    query_offset = offset_of(batch, head, first, query_strides)
    grad_offset = offset_of(batch, head, first, grad_strides)
    position, strides = position_of(batch, head, first, size, heads), dense_strides(size, heads)

    grad_k = tl.zeros((BLOCK_H * BLOCK_W, BLOCK), tl.float32)
    grad_v = tl.zeros((BLOCK_H * BLOCK_W, BLOCK_V), tl.float32)
    for line in tl.range(planes * rows, num_stages=1):
        for j in tl.range(columns, num_stages=1):
            # The query's number along each axis: not a tap, but as far from the first as one.
            step = tap_of(line, j, rows, AXES)
            seen = reads(visible, first, step, size, AXES)
            tap, relative = (planes * rows - 1 - line) * KW + KW - 1 - j, None
            if CLAMPS or RELATIVE:
                seen, tap, relative = tap_seeing(seen, first, last, step, place, size, AXES)
            q = load_tap(query, query_offset, query_strides, first, step, size, seen, 0, D, BLOCK, AXES)
            g = load_tap(grad, grad_offset, grad_strides, first, step, size, seen, 0, DV, BLOCK_V, AXES)
            q, g = q.to(tl.float32), g.to(tl.float32)
            at = around(position, first, step, size, strides, AXES) + way(step, strides, AXES)
            # Infinite where nothing sees: weights are zero there.
            logarithm = tl.load(log_sum + at, mask=seen, other=float("inf"))
            d = tl.load(delta + at, mask=seen, other=0.0)
            shifted_k, shifted_v = k, v
            if shift_bias is not None:
                bias = bias_of(shift_bias, tap, T, D, BLOCK)
                shifted_k, shifted_v = k + bias, v + bias
            logit = logit_of(
                tl.sum(q * shifted_k, 1), tl.sum(q, 1), key_bias, logit_bias, head, tap, relative, scale,
                T, AXES, RELATIVE,
            )  # fmt: skip
            weight = tl.exp2(logit - logarithm)
            grad_logit = weight * (tl.sum(g * shifted_v, 1) - d)
            grad_k += grad_logit[:, None] * q
            grad_v += weight[:, None] * g
    position = position_of(batch, head, place, size, heads)
    store_tile(grad_key, position * D, inside, grad_k * scale, 0, D, BLOCK)
    store_tile(grad_value, position * DV, inside, grad_v, 0, DV, BLOCK_V)


@kernel
def gather_plain(
    weights, grad, grad_strides, output, depth, height, width, heads, size_class,
    D: tl.constexpr, AXES: tl.constexpr, CLAMPS: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """The transpose of `values_plain`: each position sums a map over the queries that see it, by weight."""
    KH: tl.constexpr = AXES[1][0]
    KW: tl.constexpr = AXES[2][0]
    T: tl.constexpr = AXES[0][0] * KH * KW
    batch, head, place, inside = tile_of_program(depth, height, width, heads, BLOCK_H, BLOCK_W)
    size = depth, height, width
    first, last = first_query(place, AXES), last_query(place, size, AXES)
    planes, rows, columns = queries_along(first, last, inside, AXES)
    grad_offset = offset_of(batch, head, first, grad_strides)
    position, strides = position_of(batch, head, first, size, heads), dense_strides(size, heads)

    out = tl.zeros((BLOCK_H * BLOCK_W, BLOCK), tl.float32)
    for line in tl.range(planes * rows, num_stages=1):
        for j in tl.range(columns, num_stages=1):
            step = tap_of(line, j, rows, AXES)
            seen = reads(inside, first, step, size, AXES)
            tap = (planes * rows - 1 - line) * KW + KW - 1 - j
            if CLAMPS:
                seen, tap, _relative = tap_seeing(seen, first, last, step, place, size, AXES)
            at = around(position, first, step, size, strides, AXES) + way(step, strides, AXES)
            weight = tl.load(weights + at * T + tap, mask=seen, other=0.0)
            g = load_tap(grad, grad_offset, grad_strides, first, step, size, seen, 0, D, BLOCK, AXES)
            out += weight[:, None] * g.to(tl.float32)
    position = position_of(batch, head, place, size, heads)
    store_tile(output, position * D, inside, out, 0, D, BLOCK)
