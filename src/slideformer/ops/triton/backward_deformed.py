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
    around,
    dense_strides,
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
    tile_of,
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


@triton.jit
def add_product(partial, at, again, weights, x, seen, other, other_x, other_seen, PRECISION: tl.constexpr):
    """Add ``weights^T (x * seen)``, and the same of the others if there are any, to a matrix: (T', BLOCK).

    Where not ``again``, nothing is stored there yet. What is not multiplied is None.
    """
    total = tl.load(partial + at, mask=again, other=0.0)
    if seen is not None:
        x = times(x, seen)
    total = matmul(tl.trans(weights), x, total, PRECISION)
    if other is not None:
        if other_seen is not None:
            other_x = times(other_x, other_seen)
        total = matmul(tl.trans(other), other_x, total, PRECISION)
    tl.store(partial + at, total)


@kernel
def backward_map_deformed(
    query, query_strides, key, key_strides, value, value_strides, grad, grad_strides,
    packed, weights, grad_logits, grad_key, grad_value, partial,
    depth, height, width, heads, size_class, tiles, parts,
    D: tl.constexpr, AXES: tl.constexpr, T_PAD: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
    TURN: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr, WARPS: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values, ``sum_u (L W_u^T) * q`` and ``sum_u (A W_u^T) * grad`` at ``p - d_u``.

    Where ``partial`` is not None, programs also leave their shares of the gradient of the shift,
    ``sum_p A (grad * v_u) + L (q * k_u)``, (parts, T + 1, T', D'), the last of its matrices that of the bias:
    what is summed there is what is loaded here. Each program takes every ``parts``-th tile, and adds to
    its own share in the order of its tiles. Where query is None, all is of values alone.
    """
    KH: tl.constexpr = AXES[1][0]
    KW: tl.constexpr = AXES[2][0]
    LINES: tl.constexpr = AXES[0][0] * KH
    T: tl.constexpr = LINES * KW
    size, strides = (depth, height, width), dense_strides((depth, height, width), heads)
    program = tl.program_id(0)
    matrix_at = tl.arange(0, T_PAD)[:, None] * (CHUNKS * BLOCK) + tl.arange(0, BLOCK)[None, :]
    share = program.to(tl.int64) * ((T + 1) * T_PAD * CHUNKS * BLOCK) + matrix_at
    rows = tl.cdiv(height, BLOCK_H) * tl.cdiv(width, BLOCK_W) * heads * tiles
    for number in tl.range(program, rows, parts, num_stages=1):
        batch, head, place, inside = tile_of(number, depth, height, width, heads, BLOCK_H, BLOCK_W)
        first = window_start(place, size, AXES)
        grad_offset = offset_of(batch, head, first, grad_strides)
        position = position_of(batch, head, first, size, heads)
        own = position_of(batch, head, place, size, heads)
        dense = own * D
        # As a block: the interpreter does not take the comparison of a scalar as a mask.
        again = number - program + tl.zeros_like(matrix_at) > 0
        if query is not None:
            query_offset = offset_of(batch, head, first, query_strides)
        if partial is not None:
            value_offset = offset_of(batch, head, place, value_strides)
            if query is not None:
                key_offset = offset_of(batch, head, place, key_strides)
            # What this program stored for its last tile is read by other threads.
            tl.debug_barrier()

        for chunk in tl.static_range(CHUNKS):
            at_channel = chunk * BLOCK
            grad_k = tl.zeros((BLOCK_H * BLOCK_W, BLOCK), tl.float32)
            grad_v = tl.zeros((BLOCK_H * BLOCK_W, BLOCK), tl.float32)
            if partial is not None:
                v = load_tile(value, value_offset, inside, value_strides[5], at_channel, D, BLOCK)
                if query is not None:
                    k = load_tile(key, key_offset, inside, key_strides[5], at_channel, D, BLOCK)
            for line in tl.range(LINES, num_stages=1):
                for j in tl.range(KW, num_stages=1):
                    step = tap_of(line, j, KH, AXES)
                    valid = reads(inside, first, step, size, AXES)
                    # The query on one side of a position sees it by the tap on the other side.
                    tap = T - 1 - (line * KW + j)
                    matrix = tl.trans(matrix_of(packed, tap, chunk, CHUNKS, BLOCK, T_PAD))
                    at = around(position, first, step, size, strides, AXES) + way(step, strides, AXES)
                    a = load_tile(weights, at * T_PAD, valid, 1, 0, T_PAD, T_PAD)
                    g = load_tap(
                        grad, grad_offset, grad_strides, first, step, size, valid, at_channel, D, BLOCK, AXES
                    )
                    factor = matmul(rows_turned(a, TURN, WARPS), matrix, None, PRECISION)
                    grad_v += factor * turned(g, TURN, WARPS).to(tl.float32)
                    if query is not None:
                        grad_l = load_tile(grad_logits, at * T_PAD, valid, 1, 0, T_PAD, T_PAD)
                        q = load_tap(
                            query, query_offset, query_strides, first, step, size, valid,
                            at_channel, D, BLOCK, AXES,
                        )  # fmt: skip
                        factor = matmul(rows_turned(grad_l, TURN, WARPS), matrix, None, PRECISION)
                        grad_k += factor * turned(q, TURN, WARPS).to(tl.float32)
                    if partial is not None:
                        of_tap = share + tap * (T_PAD * CHUNKS * BLOCK) + at_channel
                        if query is not None:
                            add_product(partial, of_tap, again, a, g, v, grad_l, q, k, PRECISION)
                        else:
                            add_product(partial, of_tap, again, a, g, v, None, None, None, PRECISION)
            if partial is not None:
                # The bias: the same without what is seen, at the positions of the tile themselves.
                of_bias = share + T * (T_PAD * CHUNKS * BLOCK) + at_channel
                own_a = load_tile(weights, own * T_PAD, inside, 1, 0, T_PAD, T_PAD)
                own_place = offset_of(batch, head, place, grad_strides)
                own_g = load_tile(grad, own_place, inside, grad_strides[5], at_channel, D, BLOCK)
                if query is not None:
                    own_l = load_tile(grad_logits, own * T_PAD, inside, 1, 0, T_PAD, T_PAD)
                    own_place = offset_of(batch, head, place, query_strides)
                    own_q = load_tile(query, own_place, inside, query_strides[5], at_channel, D, BLOCK)
                    add_product(partial, of_bias, again, own_a, own_g, None, own_l, own_q, None, PRECISION)
                else:
                    add_product(partial, of_bias, again, own_a, own_g, None, None, None, None, PRECISION)
            if query is not None:
                grad_k = turned_back(grad_k.to(grad_key.dtype.element_ty), TURN, WARPS)
                store_tile(grad_key, dense, inside, grad_k, at_channel, D, BLOCK)
            grad_v = turned_back(grad_v.to(grad_value.dtype.element_ty), TURN, WARPS)
            store_tile(grad_value, dense, inside, grad_v, at_channel, D, BLOCK)
