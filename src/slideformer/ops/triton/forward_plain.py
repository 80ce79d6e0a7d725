# SPDX-License-Identifier: Apache-2.0
"""Attention without a deformed shift: one program a tile of positions of one head, all in registers.

Logits are kept in powers of two (``log2(e)`` folded into the factors), as the device has exp2.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slideformer.ops.triton.taps import (
    LOG2E,
    UNROLLED,
    around,
    counts,
    dense_strides,
    kernel,
    load_tap,
    load_tile,
    offset_of,
    on_axis,
    position_of,
    reads,
    store_tile,
    tap_of,
    tile_of_program,
    way,
    window_start,
)


@triton.jit
def relative_to(place, start, tap, AXES: tl.constexpr):
    """The distance of a tap from its query along each axis, in taps, and K - 1 more: an index of a table."""
    return (
        (start[0] - place[0]) // AXES[0][1] + tap[0] + AXES[0][0] - 1,
        (start[1] - place[1]) // AXES[1][1] + tap[1] + AXES[1][0] - 1,
        (start[2] - place[2]) // AXES[2][1] + tap[2] + AXES[2][0] - 1,
    )


@triton.jit
def logit_of(
    product, query_sum, key_bias, logit_bias, head, tap, relative, scale,
    T: tl.constexpr, AXES: tl.constexpr, RELATIVE: tl.constexpr,
):  # fmt: skip
    """The logit of one tap in powers of two, from the product of query and key: (P,)."""
    logit = product
    if key_bias is not None:
        logit += query_sum * tl.load(key_bias + head * T + tap).to(tl.float32)
    logit *= scale * LOG2E
    if RELATIVE:
        H: tl.constexpr = 2 * AXES[1][0] - 1
        W: tl.constexpr = 2 * AXES[2][0] - 1
        PLACES: tl.constexpr = (2 * AXES[0][0] - 1) * H * W
        place = (relative[0] * H + relative[1]) * W + relative[2]
        # Positions of a tile that are outside the map may be outside the table, too.
        known = on_axis(place, PLACES)
        logit += tl.load(logit_bias + head * PLACES + place, mask=known, other=0.0).to(tl.float32) * LOG2E
    elif logit_bias is not None:
        logit += tl.load(logit_bias + head * T + tap).to(tl.float32) * LOG2E
    return logit


@triton.jit
def exists(key_mask, offset, strides, start, tap, size, valid, AXES: tl.constexpr):
    """Whether a tap's key exists, or is not on the map: (P,)."""
    offset = around(offset, start, tap, size, strides, AXES)
    return tl.load(key_mask + way(tap, strides, AXES) + offset, mask=valid, other=1) != 0


@triton.jit
def bias_of(shift_bias, tap, T: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr):
    """The shift's bias at one tap, for all channels: (1, BLOCK)."""
    channel = tl.arange(0, BLOCK)
    return tl.load(shift_bias + channel * T + tap, mask=channel < C, other=0.0).to(tl.float32)[None, :]


@kernel
def forward_plain(
    query, query_strides, key, key_strides, value, value_strides, key_mask, shift_bias, key_bias, logit_bias,
    output, log_sum, depth, height, width, heads, scale, size_class,
    D: tl.constexpr, DV: tl.constexpr, AXES: tl.constexpr, EXCLUDES: tl.constexpr, RELATIVE: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Attention without a deformed shift: products summed over channels, the softmax tap by tap."""
    KH: tl.constexpr = AXES[1][0]
    KW: tl.constexpr = AXES[2][0]
    LINES: tl.constexpr = AXES[0][0] * KH
    T: tl.constexpr = LINES * KW
    batch, head, place, inside = tile_of_program(depth, height, width, heads, BLOCK_H, BLOCK_W)
    size = depth, height, width
    start = window_start(place, size, AXES)
    query_offset = offset_of(batch, head, place, query_strides)
    key_offset = offset_of(batch, head, start, key_strides)
    value_offset = offset_of(batch, head, start, value_strides)
    if key_mask is not None:
        mask_strides = dense_strides(size, 1)
        mask_offset = position_of(batch, 0, start, size, 1)

    q = load_tile(query, query_offset, inside, query_strides[5], 0, D, BLOCK).to(tl.float32)
    query_sum = tl.sum(q, 1)
    # Finite, so that taps left out before the first that counts give 0 and not NaN.
    largest = tl.full((BLOCK_H * BLOCK_W,), -1e38, tl.float32)
    total = tl.zeros((BLOCK_H * BLOCK_W,), tl.float32)
    out = tl.zeros((BLOCK_H * BLOCK_W, BLOCK_V), tl.float32)
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
            if EXCLUDES:
                counted = counts(inside, start, tap, size, AXES)
                if key_mask is not None:
                    counted &= exists(key_mask, mask_offset, mask_strides, start, tap, size, valid, AXES)
                logit = tl.where(counted, logit, -float("inf"))
            larger = tl.maximum(largest, logit)
            rescale, weight = tl.exp2(largest - larger), tl.exp2(logit - larger)
            largest, total = larger, total * rescale + weight
            out = out * rescale[:, None] + weight[:, None] * v
    # A position of the tile outside the map, and where there is a mask also a query, may see nothing at all.
    sees = total > 0.0
    total = tl.where(sees, total, 1.0)
    position = position_of(batch, head, place, size, heads)
    store_tile(output, position * DV, inside, out / total[:, None], 0, DV, BLOCK_V)
    # Infinite where nothing is seen: weights are zero there.
    tl.store(log_sum + position, tl.where(sees, largest + tl.log2(total), float("inf")), mask=inside)


@kernel
def logits_plain(
    query, query_strides, key, key_strides, key_mask, shift_bias, key_bias, logit_bias,
    logits, depth, height, width, heads, scale, size_class,
    D: tl.constexpr, AXES: tl.constexpr, EXCLUDES: tl.constexpr, RELATIVE: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """The logits alone, (B, Z, H, W, G, T), minus infinity where a tap is left out."""
    KH: tl.constexpr = AXES[1][0]
    KW: tl.constexpr = AXES[2][0]
    LINES: tl.constexpr = AXES[0][0] * KH
    T: tl.constexpr = LINES * KW
    batch, head, place, inside = tile_of_program(depth, height, width, heads, BLOCK_H, BLOCK_W)
    size = depth, height, width
    start = window_start(place, size, AXES)
    key_offset = offset_of(batch, head, start, key_strides)
    position = position_of(batch, head, place, size, heads)
    if key_mask is not None:
        mask_strides = dense_strides(size, 1)
        mask_offset = position_of(batch, 0, start, size, 1)

    query_offset = offset_of(batch, head, place, query_strides)
    q = load_tile(query, query_offset, inside, query_strides[5], 0, D, BLOCK).to(tl.float32)
    query_sum = tl.sum(q, 1)
    for line in tl.range(LINES, num_stages=1):
        for j in (tl.static_range if KW <= UNROLLED or LINES > 1 else tl.range)(KW):
            tap = tap_of(line, j, KH, AXES)
            valid = reads(inside, start, tap, size, AXES)
            k = load_tap(key, key_offset, key_strides, start, tap, size, valid, 0, D, BLOCK, AXES)
            k, number = k.to(tl.float32), line * KW + j
            if shift_bias is not None:
                k += bias_of(shift_bias, number, T, D, BLOCK)
            relative = relative_to(place, start, tap, AXES) if RELATIVE else None
            logit = logit_of(
                tl.sum(q * k, 1), query_sum, key_bias, logit_bias, head, number, relative, scale,
                T, AXES, RELATIVE,
            )  # fmt: skip
            if EXCLUDES:
                counted = counts(inside, start, tap, size, AXES)
                if key_mask is not None:
                    counted &= exists(key_mask, mask_offset, mask_strides, start, tap, size, valid, AXES)
                logit = tl.where(counted, logit, -float("inf"))
            tl.store(logits + position * T + number, logit / LOG2E, mask=inside)


@kernel
def values_plain(
    weights, value, value_strides, shift_bias, key_bias, output,
    depth, height, width, heads, size_class,
    D: tl.constexpr, AXES: tl.constexpr, BLOCK: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Sums of the values at all taps with given weights, (B, Z, H, W, G, T) in float32."""
    KH: tl.constexpr = AXES[1][0]
    KW: tl.constexpr = AXES[2][0]
    LINES: tl.constexpr = AXES[0][0] * KH
    T: tl.constexpr = LINES * KW
    batch, head, place, inside = tile_of_program(depth, height, width, heads, BLOCK_H, BLOCK_W)
    size = depth, height, width
    start = window_start(place, size, AXES)
    value_offset = offset_of(batch, head, start, value_strides)
    position = position_of(batch, head, place, size, heads)

    out = tl.zeros((BLOCK_H * BLOCK_W, BLOCK), tl.float32)
    for line in tl.range(LINES, num_stages=1):
        for j in (tl.static_range if KW <= UNROLLED or LINES > 1 else tl.range)(KW):
            tap = tap_of(line, j, KH, AXES)
            valid = reads(inside, start, tap, size, AXES)
            v = load_tap(value, value_offset, value_strides, start, tap, size, valid, 0, D, BLOCK, AXES)
            v, number = v.to(tl.float32), line * KW + j
            if shift_bias is not None:
                v += bias_of(shift_bias, number, T, D, BLOCK)
            if key_bias is not None:
                v += tl.load(key_bias + head * T + number).to(tl.float32)
            weight = tl.load(weights + position * T + number, mask=inside, other=0.0)
            out += weight[:, None] * v
    store_tile(output, position * D, inside, out, 0, D, BLOCK)
