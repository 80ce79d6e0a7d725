# SPDX-License-Identifier: Apache-2.0
"""The launches of a backward pass, and the sums over their shares."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from slideformer.ops.call import Call
from slideformer.ops.triton import backward_deformed, launch
from slideformer.ops.triton.launch import PARTS, Sizes, dense
from slideformer.ops.window import Axis


def backward_into(
    grads: dict[str, Tensor], grad: Tensor, output: Tensor, log_sum: Tensor, call: Call
) -> None:
    """Fill the gradients that are wanted, by the names of the call's tensors."""
    if call.deformed:
        deformed(grads, grad, call)
    else:
        plain(grads, grad, output, log_sum, call)


def share(wanted: bool, programs: int, *shape: int, like: Tensor) -> Tensor | None:
    """Allocate every program's share of a parameter's gradient, or None."""
    return like.new_empty((programs, *shape), dtype=torch.float32) if wanted else None


def add_by_head(grads: dict[str, Tensor], name: str, shares: Tensor | None) -> None:
    """Add up the shares of each head: programs run heads fastest."""
    if shares is not None:
        grads[name].copy_(shares.unflatten(0, (-1, len(grads[name]))).sum(0))


def room(grads: dict[str, Tensor], name: str, like: Tensor) -> Tensor:
    """The gradient of a map, or where it is not wanted a tensor for what its kernel writes anyway."""
    return grads[name] if name in grads else like.new_empty(like.shape)


def plain(grads: dict[str, Tensor], grad: Tensor, output: Tensor, log_sum: Tensor, call: Call) -> None:
    """Gradients without a deformed shift."""
    sizes, taps = Sizes.of(call), call.window.taps
    query, key, value = call.query, call.key, call.value
    maps = [y for x in (query, key, value, grad) for y in (x, sizes.strides(x))]
    others = (launch.bytes_of(call.key_mask), *map(dense, (call.shift_bias, call.key_bias, call.logit_bias)))
    constants = {**sizes.map(), "scale": call.scale, **sizes.plain(call.logit_bias)}
    programs, relative = sizes.programs(sizes.tile), constants["RELATIVE"]

    delta, logits = torch.empty_like(log_sum), None
    if "logit_bias" in grads and relative:
        logits = query.new_empty((*sizes.shape[:5], taps), dtype=torch.float32)
    of_shift_bias = share("shift_bias" in grads, programs, taps, query.shape[-1], like=query)
    of_key_bias = share("key_bias" in grads, programs, taps, like=query)
    of_logit_bias = share("logit_bias" in grads and not relative, programs, taps, like=query)
    grad_query = room(grads, "query", query)
    launch.BACKWARD_QUERY_PLAIN[(programs,)](
        *maps, *others, output, log_sum, grad_query, delta, logits, of_shift_bias, of_key_bias, of_logit_bias,
        **constants, EXCLUDES=sizes.excludes(call.key_mask),
    )  # fmt: skip
    if "key" in grads or "value" in grads:
        grad_key, grad_value = room(grads, "key", key), room(grads, "value", value)
        launch.BACKWARD_MAP_PLAIN[sizes.grid](
            *maps, *others, log_sum, delta, grad_key, grad_value, **constants, CLAMPS=sizes.clamps
        )
    add_by_head(grads, "key_bias", of_key_bias)
    add_by_head(grads, "logit_bias", of_logit_bias)
    if of_shift_bias is not None:
        grads["shift_bias"].copy_(of_shift_bias.sum(0).T)
    if logits is not None:
        grads["logit_bias"].copy_(by_relative_position(logits, sizes).view_as(grads["logit_bias"]))


def by_relative_position(grad_logits: Tensor, sizes: Sizes) -> Tensor:
    """Gradient of the relative logit bias: ``(B, Z, H, W, G, T)`` to ``(G, 2 K - 1, 2 K - 1, 2 K - 1)``."""
    axes = sizes.window.axes(sizes.shape[1:4])
    taps = grad_logits.sum(0).unflatten(-1, sizes.window.kernel_size)
    # Products with one-hot matrices, as adding by index has no fixed order on a GPU.
    return torch.einsum("zywgkij,zkc,yia,wjb->gcab", taps, *(one_hot(axis, taps.device) for axis in axes))


def one_hot(axis: Axis, device: torch.device) -> Tensor:
    """The relative position of each tap, one-hot: ``(size, K, 2 K - 1)``, float32."""
    places = 2 * axis.kernel_size - 1
    return F.one_hot(axis.relative(device).clamp(0, places - 1), places).float()


def deformed(grads: dict[str, Tensor], grad: Tensor, call: Call) -> None:
    """Gradients through a deformed shift."""
    sizes, taps = Sizes.of(call), call.window.taps
    query, key, value = call.query, call.key, call.value
    maps = [y for x in (query, key, value, grad) for y in (x, sizes.strides(x))]
    packed = launch.packed_shift(call, sizes)
    constants = {**sizes.map(), **sizes.deformed()}
    programs = sizes.programs(sizes.tile)

    weights, logits = (query.new_empty((*sizes.shape[:5], sizes.taps_padded)) for _ in range(2))
    of_key_bias = share("key_bias" in grads, programs, taps, like=query)
    of_logit_bias = share("logit_bias" in grads, programs, taps, like=query)
    grad_query = room(grads, "query", query)
    launch.BACKWARD_QUERY_DEFORMED[(programs,)](
        *maps, packed, dense(call.logit_bias), grad_query, weights, logits, of_key_bias, of_logit_bias,
        **constants, scale=call.scale, TURN=sizes.turn, **launch.biases(call),
    )  # fmt: skip
    if "key" in grads or "value" in grads:
        grad_key, grad_value = room(grads, "key", key), room(grads, "value", value)
        launch.BACKWARD_MAP_DEFORMED[sizes.grid](
            *maps[:2], *maps[6:], packed, weights, logits, grad_key, grad_value, **constants, TURN=sizes.turn
        )
    add_by_head(grads, "key_bias", of_key_bias)
    add_by_head(grads, "logit_bias", of_logit_bias)
    if "shift_weight" in grads or "shift_bias" in grads:
        weight, bias = shift_gradients(maps, weights, logits, sizes)
        for name, x in (("shift_weight", weight), ("shift_bias", bias)):
            if name in grads:
                grads[name].copy_(x)


def shift_gradients(
    maps: Sequence[Tensor | tuple[int, ...] | None], weights: Tensor, logits: Tensor | None, sizes: Sizes
) -> tuple[Tensor, Tensor]:
    """Gradients of the shift's weight, ``(D, T, T)``, and bias, ``(D, T)``, in float32."""
    batch, depth, height, width, heads, channels = sizes.shape
    *lines, columns = sizes.window.kernel_size
    rows, taps = math.prod(lines), sizes.window.taps
    columns_padded = triton.next_power_of_2(columns + 1)
    # A row of taps of so many positions fits into registers; channels loaded one by one take more of them.
    side_by_side = channels % 16 == 0
    pixels = (64 if sizes.turn and columns_padded <= 4 else 32) if side_by_side else 16
    parts = min(PARTS, batch * depth * triton.cdiv(height * width * heads, pixels))
    shape = (parts, rows, sizes.chunks, sizes.taps_padded, columns_padded, sizes.chunk)
    partial = weights.new_empty(shape, dtype=torch.float32)
    constants = {name: x for name, x in sizes.map().items() if name != "size_class"}
    backward_deformed.backward_shift[(parts * rows * sizes.chunks,)](
        *maps, weights, logits, partial, **constants, planes=batch * depth, parts=parts, **sizes.deformed(),
        KW_PAD=columns_padded, PIXELS=pixels,
    )  # fmt: skip
    # (lines, K_cols + 1, chunks, chunk, T): input tap, channel, output tap.
    total = partial.sum(0)[:, :, :taps, : columns + 1].permute(0, 3, 1, 4, 2)
    total = total.flatten(2, 3)[:, :, :channels]
    weight = total[:, :columns].flatten(0, 1).permute(1, 2, 0)
    return weight, total[0, columns]
