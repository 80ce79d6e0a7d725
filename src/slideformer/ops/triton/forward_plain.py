# SPDX-License-Identifier: Apache-2.0
"""Attention without a deformed shift: one program a tile of positions of one head, all in registers.

Logits are kept in powers of two (``log2(e)`` folded into the factors), as the device has exp2.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slideformer.ops.triton.taps import (
    LOG2E,
    UNSPECIALISED,
    load_tile,
    offset_of,
    on_axis,
    position_of,
    store_tile,
    tile_of_program,
    wide,
    window_start,
)


@triton.jit
def logit_of(
    product, query_sum, key_bias, logit_bias, head, tap, relative_row, relative_column, scale,
    T: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, RELATIVE: tl.constexpr,
):  # fmt: skip
    """The logit of one tap in powers of two, from the product of query and key: (P,)."""
    logit = product
    if key_bias is not None:
        logit += query_sum * tl.load(key_bias + head * T + tap).to(tl.float32)
    logit *= scale * LOG2E
    if RELATIVE:
        place = (head * (2 * KH - 1) + relative_row) * (2 * KW - 1) + relative_column
        # Positions of a tile that are outside the map may be outside the table, too.
        known = on_axis(relative_row, 2 * KH - 1) & on_axis(relative_column, 2 * KW - 1)
        logit += tl.load(logit_bias + place, mask=known, other=0.0).to(tl.float32) * LOG2E
    elif logit_bias is not None:
        logit += tl.load(logit_bias + head * T + tap).to(tl.float32) * LOG2E
    return logit


@triton.jit
def bias_of(shift_bias, tap, T: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr):
    """The shift's bias at one tap, for all channels: (1, BLOCK)."""
    channel = tl.arange(0, BLOCK)
    return tl.load(shift_bias + channel * T + tap, mask=channel < C, other=0.0).to(tl.float32)[None, :]


@triton.jit(do_not_specialize=UNSPECIALISED)
def forward_plain(
    query, query_strides, key, key_strides, value, value_strides, shift_bias, key_bias, logit_bias,
    output, log_sum, height, width, heads, scale, size_class,
    D: tl.constexpr, DV: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    DILATION_H: tl.constexpr, DILATION_W: tl.constexpr, ZEROS: tl.constexpr, CLAMP: tl.constexpr,
    RELATIVE: tl.constexpr, BLOCK: tl.constexpr, BLOCK_V: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Attention without a deformed shift: products summed over channels, the softmax tap by tap."""
    T: tl.constexpr = KH * KW
    batch, head, y, x, inside = tile_of_program(height, width, heads, BLOCK_H, BLOCK_W)
    row = window_start(y, height, KH, DILATION_H, CLAMP)
    column = window_start(x, width, KW, DILATION_W, CLAMP)
    query_offset = offset_of(batch, head, y, x, query_strides)
    key_offset = offset_of(batch, head, row, column, key_strides)
    value_offset = offset_of(batch, head, row, column, value_strides)
    key_down, key_across = wide(key_strides[1]) * DILATION_H, wide(key_strides[2]) * DILATION_W
    value_down, value_across = wide(value_strides[1]) * DILATION_H, wide(value_strides[2]) * DILATION_W

    q = load_tile(query, query_offset, inside, query_strides[4], 0, D, BLOCK).to(tl.float32)
    query_sum = tl.sum(q, 1)
    # Finite, so that taps left out before the first that counts give 0 and not NaN.
    largest = tl.full((BLOCK_H * BLOCK_W,), -1e38, tl.float32)
    total = tl.zeros((BLOCK_H * BLOCK_W,), tl.float32)
    out = tl.zeros((BLOCK_H * BLOCK_W, BLOCK_V), tl.float32)
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
            if not ZEROS:
                logit = tl.where(valid, logit, -float("inf"))
            larger = tl.maximum(largest, logit)
            rescale, weight = tl.exp2(largest - larger), tl.exp2(logit - larger)
            largest, total = larger, total * rescale + weight
            out = out * rescale[:, None] + weight[:, None] * v
    # A position of the tile outside the map may have no neighbour at all.
    total = tl.where(inside, total, 1.0)
    position = position_of(batch, head, y, x, height, width, heads)
    store_tile(output, position * DV, inside, out / total[:, None], 0, DV, BLOCK_V)
    tl.store(log_sum + position, largest + tl.log2(total), mask=inside)
