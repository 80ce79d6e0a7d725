# SPDX-License-Identifier: Apache-2.0
"""The kernels as operators of torch: shapes for compilers, derivatives, and a count of operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from slideformer.ops import derivatives
from slideformer.ops.call import TENSORS, Call
from slideformer.ops.derivatives import Kernels, Tensors
from slideformer.ops.flat import (
    ARGUMENTS,
    COUNT,
    call_of,
    flat,
    forward_flops,
    multiply_adds,
    no_second_derivative,
)
from slideformer.ops.triton import gradients, library, tuning
from slideformer.ops.triton.devices import current
from slideformer.ops.triton.library import differentiable, operator
from slideformer.ops.triton.packing import bytes_of, dense, packed_shift
from slideformer.ops.triton.plans import plan_for


def empty_output(query: Tensor, key: Tensor, value: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    """Allocate the output and the logarithms of the softmax's sums.

    A deformed call, whose backward pass computes the softmax again, keeps no logarithms.
    """
    deformed = others[TENSORS.index("shift_weight") - 3] is not None
    log_sum_shape = (query.shape[0], 0) if deformed else query.shape[:-1]
    output = torch.empty_like(value, memory_format=torch.contiguous_format)
    return output, query.new_empty(log_sum_shape, dtype=torch.float32)


@operator("triton_forward", f"({ARGUMENTS}) -> (Tensor, Tensor)", empty_output)
def triton_forward(*arguments: Any) -> tuple[Tensor, Tensor]:
    """The output ``(B, *map, G, D')`` and the logarithms of the softmax's sums, ``(B, *map, G)``."""
    output, log_sum = empty_output(*arguments)
    if output.numel() > 0:
        with current(output):
            forward_into(output, log_sum, arguments)
    return output, log_sum


def forward_into(output: Tensor, log_sum: Tensor, arguments: Sequence[Any]) -> None:
    """Compute a call; ``log_sum`` is not touched where the shift is deformed."""
    query, key, value, mask, shift_weight, shift_bias, key_bias, logit_bias = arguments[:COUNT]
    plan, logit_bias = plan_for(arguments), dense(logit_bias)
    if shift_weight is not None:
        packed = packed_shift(plan, shift_weight, shift_bias, key_bias)
        plan.run(tuning.FORWARD_DEFORMED, query, key, value, packed, logit_bias, output)
        return
    biases = dense(shift_bias), dense(key_bias), logit_bias
    plan.run(tuning.FORWARD_PLAIN, query, key, value, bytes_of(mask), *biases, output, log_sum)


def fake_backward(grad: Tensor, output: Tensor, log_sum: Tensor, *arguments: Any) -> list[Tensor]:
    """Gradients as a compiler sees them."""
    return empty_gradients(call_of(*arguments[:-1]), arguments[-1])


@operator(
    "triton_backward",
    f"(Tensor grad, Tensor output, Tensor log_sum, {ARGUMENTS}, bool[] wanted) -> Tensor[]",
    fake_backward,
)
def triton_backward(grad: Tensor, output: Tensor, log_sum: Tensor, *arguments: Any) -> list[Tensor]:
    """Gradients of query, key, value and the parameters, in order; those not wanted have no elements."""
    call, wanted = call_of(*arguments[:-1]), arguments[-1]
    grads = empty_gradients(call, wanted)
    if output.numel() == 0:
        return [x.zero_() for x in grads]
    with current(output):
        named = {name: x for name, x, here in zip(TENSORS, grads, wanted, strict=True) if here}
        gradients.backward_into(named, grad, output, log_sum, call)
    return grads


def empty_gradients(call: Call, wanted: Sequence[bool]) -> list[Tensor]:
    """Allocate the gradients, without elements where none is wanted."""
    return [
        call.query.new_empty(0) if x is None or not here else x.new_empty(x.shape)
        for x, here in zip(call.tensors(), wanted, strict=True)
    ]


def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """Keep the arguments, the output and, where the taps are not deformed, the logarithms of sums."""
    tensors, ctx.options = inputs[:COUNT], inputs[COUNT:]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*output, *tensors)


def derive(ctx: Any, grad: Tensor, grad_log_sum: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of the forward operator's arguments."""
    output, log_sum, *tensors = ctx.saved_tensors
    wanted = [x is not None and here for x, here in zip(tensors, ctx.needs_input_grad, strict=False)]
    grads = triton_backward(grad, output, log_sum, *tensors, *ctx.options, wanted)
    found = (x if here else None for x, here in zip(grads, wanted, strict=True))
    return (*found, *(None for _ in ctx.options))


differentiable(triton_forward, derive, keep)
differentiable(triton_backward, no_second_derivative("triton"))
register_flop_formula(torch.ops.slideformer.triton_forward)(forward_flops)


@register_flop_formula(torch.ops.slideformer.triton_backward)
def backward_flops(grad: Any, output: Any, log_sum: Any, *arguments: Any, **outputs: Any) -> int:
    """Logits once more, and the gradients of weights, maps and, where deformed, of the shift."""
    found = multiply_adds(*arguments)
    return (7 if found.deformed else 5) * (found.logits + found.output)


def wanted_gradients(call: Call, grad: Tensor, kept: Tensors, wanted: Sequence[bool]) -> Sequence[Tensor]:
    """The gradients that are wanted, in order."""
    found = library.call(triton_backward, grad, *kept, *flat(call), list(wanted))
    return [x for x, here in zip(found, wanted, strict=True) if here]


KERNELS = Kernels(
    "triton",
    lambda call: library.call(triton_forward, *flat(call)),
    wanted_gradients,
    lambda call: triton_forward(*flat(call))[0],
)


def attend(call: Call) -> Tensor:
    """Slide attention by fused kernels."""
    return derivatives.attend(call, KERNELS)
