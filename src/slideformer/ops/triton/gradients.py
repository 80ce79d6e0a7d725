# SPDX-License-Identifier: Apache-2.0
"""The launches of a backward pass, and the sums over their shares."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from slideformer.ops.call import Call
from slideformer.ops.flat import flat
from slideformer.ops.triton import tuning
from slideformer.ops.triton.packing import bytes_of, dense, packed_shift
from slideformer.ops.triton.plans import Plan, plan_for
from slideformer.ops.triton.sizes import Sizes
from slideformer.ops.window import Axis

SHIFT = ("shift_weight", "shift_bias")


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
    plan, taps = plan_for(flat(call), grad), call.window.taps
    query, key, value = call.query, call.key, call.value
    biases = map(dense, (call.shift_bias, call.key_bias, call.logit_bias))
    given = (query, key, value, grad, bytes_of(call.key_mask), *biases)
    programs = plan.sizes.programs(plan.sizes.tile)

    delta, logits = torch.empty_like(log_sum), None
    if "logit_bias" in grads and plan.relative:
        logits = query.new_empty((*plan.sizes.shape[:5], taps), dtype=torch.float32)
    of_shift_bias = share("shift_bias" in grads, programs, taps, query.shape[-1], like=query)
    of_key_bias = share("key_bias" in grads, programs, taps, like=query)
    of_logit_bias = share("logit_bias" in grads and not plan.relative, programs, taps, like=query)
    shares = of_shift_bias, of_key_bias, of_logit_bias
    grad_query = room(grads, "query", query)
    plan.run(tuning.BACKWARD_QUERY_PLAIN, *given, output, log_sum, grad_query, delta, logits, *shares)
    if "key" in grads or "value" in grads:
        grad_key, grad_value = room(grads, "key", key), room(grads, "value", value)
        plan.run(tuning.BACKWARD_MAP_PLAIN, *given, log_sum, delta, grad_key, grad_value)
    add_by_head(grads, "key_bias", of_key_bias)
    add_by_head(grads, "logit_bias", of_logit_bias)
    if of_shift_bias is not None:
        grads["shift_bias"].copy_(of_shift_bias.sum(0).T)
    if logits is not None:
        grads["logit_bias"].copy_(by_relative_position(logits, plan.sizes).view_as(grads["logit_bias"]))


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
    plan, taps = plan_for(flat(call), grad), call.window.taps
    query, key, value = call.query, call.key, call.value
    assert call.shift_weight is not None
    packed = packed_shift(plan, call.shift_weight, call.shift_bias, call.key_bias)
    programs = plan.sizes.programs(plan.sizes.tile)

    shape = *plan.sizes.shape[:5], plan.sizes.taps_padded
    weights, logits = query.new_empty(shape), query.new_empty(shape)
    of_key_bias = share("key_bias" in grads, programs, taps, like=query)
    of_logit_bias = share("logit_bias" in grads, programs, taps, like=query)
    grad_query = room(grads, "query", query)
    plan.run(
        tuning.BACKWARD_QUERY_DEFORMED, query, key, value, grad, packed, dense(call.logit_bias),
        grad_query, weights, logits, of_key_bias, of_logit_bias,
    )  # fmt: skip
    if {"key", "value", *SHIFT} & grads.keys():
        grad_key, grad_value = room(grads, "key", key), room(grads, "value", value)
        partial = shift_shares(grads, plan)
        plan.run(
            tuning.BACKWARD_MAP_DEFORMED, query, key, value, grad, packed, weights, logits,
            grad_key, grad_value, partial,
        )  # fmt: skip
        add_shift(grads, partial, plan)
    add_by_head(grads, "key_bias", of_key_bias)
    add_by_head(grads, "logit_bias", of_logit_bias)


def shift_shares(grads: dict[str, Tensor], plan: Plan) -> Tensor | None:
    """Allocate every program's share of the shift's gradient, or None."""
    wanted = any(name in grads for name in SHIFT)
    return torch.empty(plan.shares_shape, dtype=torch.float32, device=plan.sizes.device) if wanted else None


def add_shift(grads: dict[str, Tensor], partial: Tensor | None, plan: Plan) -> None:
    """Add up the shares of the shift's gradient, (T + 1, T', D'): input tap, output tap, channel."""
    if partial is None:
        return
    total = partial.sum(0)[:, : plan.sizes.window.taps, : plan.sizes.shape[5]]
    for name, x in zip(SHIFT, (total[:-1].permute(2, 1, 0), total[-1].T), strict=True):
        if name in grads:
            grads[name].copy_(x)
