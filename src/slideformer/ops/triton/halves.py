# SPDX-License-Identifier: Apache-2.0
"""The two halves of the operator by Triton kernels, as operators of torch.

A half is a call in which one map has no channels: logits have no value; sums of values have no key, and for
query the weights ``(B, *map, G, T)``. Their backward passes are halves again: with L the gradient of the
logits, that of the queries is a sum of keys weighted by L, and with g the gradient of a sum of values, that
of the weights are the logits of g and the values. What is left are the transposes: L with the queries, or the
weights with g, summed over the queries that see a position (keys, values) or over all positions (shift).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from slideformer.ops import derivatives, shift
from slideformer.ops.call import TENSORS, Call, no_channels
from slideformer.ops.derivatives import Kernels, Tensors
from slideformer.ops.flat import (
    ARGUMENTS,
    call_of,
    count_half,
    flat,
    keep_arguments,
    no_second_derivative,
)
from slideformer.ops.triton import gradients, library, tuning
from slideformer.ops.triton.devices import current
from slideformer.ops.triton.library import differentiable, operator
from slideformer.ops.triton.operators import empty_gradients
from slideformer.ops.triton.packing import bytes_of, dense, packed_shift
from slideformer.ops.triton.plans import Plan, plan_for


def empty_logits(call: Call) -> Tensor:
    """Allocate ``(B, *map, G, T)`` in float32."""
    return call.query.new_empty((*call.query.shape[:-1], call.window.taps), dtype=torch.float32)


def padded(weights: Tensor, plan: Plan) -> Tensor:
    """Weights as kernels for a deformed shift read them: ``(B, *map, G, T')`` in the dtype of the maps."""
    sizes = plan.sizes
    return F.pad(weights.to(sizes.dtype), (0, sizes.taps_padded - sizes.window.taps)).contiguous()


def packed(call: Call, plan: Plan) -> Tensor:
    """The packed shift of a call."""
    assert call.shift_weight is not None
    return packed_shift(plan, call.shift_weight, call.shift_bias, call.key_bias)


def logits_into(logits: Tensor, call: Call, *, excludes: bool = True) -> None:
    """Compute the logits of a call; those of taps that are left out are minus infinity, or products, too."""
    plan, logit_bias = plan_for(flat(call), excludes=excludes), dense(call.logit_bias)
    if call.deformed:
        plan.run(tuning.LOGITS_DEFORMED, call.query, call.key, packed(call, plan), logit_bias, logits)
        return
    biases = dense(call.shift_bias), dense(call.key_bias), logit_bias
    plan.run(tuning.LOGITS_PLAIN, call.query, call.key, bytes_of(call.key_mask), *biases, logits)


def values_into(output: Tensor, call: Call) -> None:
    """Sum a call's values, and to each the bias of its keys if there is one, weighted by its query."""
    plan = plan_for(flat(call))
    if call.deformed:
        weights = padded(call.query, plan)
        plan.run(tuning.VALUES_DEFORMED, weights, call.value, packed(call, plan), output)
        return
    weights = call.query.float().contiguous()
    plan.run(tuning.VALUES_PLAIN, weights, call.value, dense(call.shift_bias), dense(call.key_bias), output)


def transposed_into(grads: dict[str, Tensor], name: str, weights: Tensor, x: Tensor, call: Call) -> None:
    """Fill the gradients of the map of a half, which has this name, and of the shift.

    Args:
        grads: the gradients that are wanted, by name.
        name: the map's, ``"key"`` or ``"value"``.
        weights: w, the gradient of the logits or the weights, ``(B, *map, G, T)``.
        x: the query or the gradient of the output.
        call: the half.
    """
    seen = getattr(call, name)
    # The kernels for both maps at once take the one that there is as values, and x as their gradient.
    plan = plan_for(flat(replace(call, key=no_channels(seen), value=seen, query=weights)), x)
    if not call.deformed:
        if name in grads:
            plan.run(tuning.GATHER_PLAIN, weights.float().contiguous(), x, grads[name])
        if "shift_bias" in grads:
            total = torch.einsum("nt,nd->dt", weights.flatten(0, -2).float(), x.flatten(0, -2).float())
            grads["shift_bias"].copy_(total)
        return
    narrow = padded(weights, plan)
    partial, output = gradients.shift_shares(grads, plan), gradients.room(grads, name, seen)
    if name in grads or partial is not None:
        maps = None, None, seen, x
        plan.run(tuning.BACKWARD_MAP_DEFORMED, *maps, packed(call, plan), narrow, None, None, output, partial)
        gradients.add_shift(grads, partial, plan)


def counted(grad_logits: Tensor, call: Call) -> Tensor:
    """Gradient of the logits, zero where a tap is left out: there the logit is a constant."""
    inside = call.window.inside(call.window.axes(call.map_size), grad_logits.device)
    if inside is not None:
        grad_logits = torch.where(inside, grad_logits, 0.0)
    if call.key_mask is not None:
        grad_logits = torch.where(call.window.masked(call.key_mask), 0.0, grad_logits)
    return grad_logits


def logits_gradients_into(grads: dict[str, Tensor], grad: Tensor, call: Call) -> None:
    """Fill the gradients of the tensors of a call's logits that are wanted."""
    grad, plan = counted(grad, call), plan_for(flat(call))
    scaled = grad * call.scale
    if "query" in grads:
        keys = replace(call, query=scaled, key=no_channels(call.key), value=call.key)
        values_into(grads["query"], replace(keys, key_mask=None, logit_bias=None))
    if "logit_bias" in grads:
        total = (
            gradients.by_relative_position(grad.view(*plan.sizes.shape[:5], -1), plan.sizes)
            if plan.relative
            else grad.flatten(0, -3).sum(0)
        )
        grads["logit_bias"].copy_(total.view_as(grads["logit_bias"]))
    if "key_bias" in grads:
        sums = call.query.float().sum(-1, keepdim=True)
        grads["key_bias"].copy_((scaled * sums).flatten(0, -3).sum(0))
    transposed_into(grads, "key", scaled, call.query, call)


def values_gradients_into(grads: dict[str, Tensor], grad: Tensor, call: Call) -> None:
    """Fill the gradients of the tensors of a call's sum of values that are wanted."""
    if "query" in grads:
        products = replace(call, query=grad, key=call.value, key_mask=None, scale=1.0)
        logits_into(grads["query"], products, excludes=False)
    transposed_into(grads, "value", call.query, grad, call)


def fake_logits(*arguments: Any) -> Tensor:
    """Logits as a compiler sees them."""
    return empty_logits(call_of(*arguments))


def fake_values(query: Tensor, key: Tensor, value: Tensor, *others: Any) -> Tensor:
    """Sums of values as a compiler sees them."""
    return value.new_empty(value.shape)


@operator("triton_logits", f"({ARGUMENTS}) -> Tensor", fake_logits)
def triton_logits(*arguments: Any) -> Tensor:
    """The logits ``(B, *map, G, T)`` in float32, minus infinity where a tap is left out."""
    call = call_of(*arguments)
    logits = empty_logits(call)
    if logits.numel() > 0:
        with current(logits):
            logits_into(logits, call)
    return logits


@operator("triton_values", f"({ARGUMENTS}) -> Tensor", fake_values)
def triton_values(*arguments: Any) -> Tensor:
    """The sums of values ``(B, *map, G, D')``, whose weights are the call's query."""
    call = call_of(*arguments)
    output = call.value.new_empty(call.value.shape)
    if output.numel() > 0:
        with current(output):
            values_into(output, call)
    return output


def fake_gradients(grad: Tensor, *arguments: Any) -> list[Tensor]:
    """Gradients as a compiler sees them."""
    return empty_gradients(call_of(*arguments[:-1]), arguments[-1])


BACKWARD = f"(Tensor grad, {ARGUMENTS}, bool[] wanted) -> Tensor[]"


@operator("triton_logits_backward", BACKWARD, fake_gradients)
def triton_logits_backward(grad: Tensor, *arguments: Any) -> list[Tensor]:
    """Gradients of the tensors of a call of logits, in order; those not wanted have no elements."""
    return found_gradients(logits_gradients_into, grad, *arguments)


@operator("triton_values_backward", BACKWARD, fake_gradients)
def triton_values_backward(grad: Tensor, *arguments: Any) -> list[Tensor]:
    """Gradients of the tensors of a call of a sum of values, in order; those not wanted have no elements."""
    return found_gradients(values_gradients_into, grad, *arguments)


def found_gradients(fill: Callable[..., None], grad: Tensor, *arguments: Any) -> list[Tensor]:
    """Allocate the gradients that are wanted and fill them."""
    call, wanted = call_of(*arguments[:-1]), arguments[-1]
    grads = empty_gradients(call, wanted)
    if grad.numel() == 0:
        return [x.zero_() for x in grads]
    with current(grad):
        # A map without channels has no gradient.
        named = zip(TENSORS, grads, wanted, strict=True)
        fill({name: x for name, x, here in named if here and x.numel() > 0}, grad, call)
    return grads


def kernels_of(forward: Any, backward: Any, half: str, formula: Callable[[Call], Tensor]) -> Kernels:
    """The passes of a half by its two operators, which learn their derivatives and their cost here."""

    def derive(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        wanted = [x is not None and here for x, here in zip(tensors, ctx.needs_input_grad, strict=False)]
        found = zip(backward(grad, *tensors, *ctx.options, wanted), wanted, strict=True)
        return (*(x if here else None for x, here in found), *(None for _ in ctx.options))

    def wanted_gradients(call: Call, grad: Tensor, kept: Tensors, wanted: Sequence[bool]) -> Sequence[Tensor]:
        found = library.call(backward, grad, *flat(call), list(wanted))
        return [x for x, here in zip(found, wanted, strict=True) if here]

    differentiable(forward, derive, keep_arguments)
    differentiable(backward, no_second_derivative("triton"))
    count_half(forward, backward, half)
    return Kernels(
        "triton",
        lambda call: (library.call(forward, *flat(call)),),
        wanted_gradients,
        lambda call: forward(*flat(call)),
        formula=formula,
    )


OF_LOGITS = kernels_of(triton_logits, triton_logits_backward, "logits", shift.logits)
OF_VALUES = kernels_of(triton_values, triton_values_backward, "output", shift.values)


def logits(call: Call) -> Tensor:
    """The logits by the kernels."""
    return derivatives.attend(call, OF_LOGITS)


def values(call: Call) -> Tensor:
    """The sums of values by the kernels."""
    return derivatives.attend(call, OF_VALUES)
