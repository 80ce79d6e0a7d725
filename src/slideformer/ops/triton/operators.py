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
from slideformer.ops.triton import gradients, launch


def empty_output(call: Call) -> tuple[Tensor, Tensor]:
    """Allocate the output and the logarithms of the softmax's sums.

    A deformed call, whose backward pass computes the softmax again, keeps no logarithms.
    """
    log_sum_shape = (len(call.query), 0) if call.deformed else call.query.shape[:-1]
    return call.value.new_empty(call.value.shape), call.query.new_empty(log_sum_shape, dtype=torch.float32)


@torch.library.custom_op(
    "slideformer::triton_forward", mutates_args=(), schema=f"({ARGUMENTS}) -> (Tensor, Tensor)"
)
def triton_forward(*arguments: Any) -> tuple[Tensor, Tensor]:
    """The output ``(B, *map, G, D')`` and the logarithms of the softmax's sums, ``(B, *map, G)``."""
    call = call_of(*arguments)
    output, log_sum = empty_output(call)
    if output.numel() > 0:
        with torch.cuda.device_of(output):
            launch.forward_into(output, log_sum, call)
    return output, log_sum


@triton_forward.register_fake
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    return empty_output(call_of(*arguments))


@torch.library.custom_op(
    "slideformer::triton_backward",
    mutates_args=(),
    schema=f"(Tensor grad, Tensor output, Tensor log_sum, {ARGUMENTS}, bool[] wanted) -> Tensor[]",
)
def triton_backward(grad: Tensor, output: Tensor, log_sum: Tensor, *arguments: Any) -> list[Tensor]:
    """Gradients of query, key, value and the parameters, in order; those not wanted have no elements."""
    call, wanted = call_of(*arguments[:-1]), arguments[-1]
    grads = empty_gradients(call, wanted)
    if output.numel() == 0:
        return [x.zero_() for x in grads]
    with torch.cuda.device_of(output):
        named = {name: x for name, x, here in zip(TENSORS, grads, wanted, strict=True) if here}
        gradients.backward_into(named, grad, output, log_sum, call)
    return grads


@triton_backward.register_fake
def _(grad: Tensor, output: Tensor, log_sum: Tensor, *arguments: Any) -> list[Tensor]:
    return empty_gradients(call_of(*arguments[:-1]), arguments[-1])


def empty_gradients(call: Call, wanted: list[bool]) -> list[Tensor]:
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


triton_forward.register_autograd(derive, setup_context=keep)
triton_backward.register_autograd(no_second_derivative("triton"))
register_flop_formula(torch.ops.slideformer.triton_forward)(forward_flops)


@register_flop_formula(torch.ops.slideformer.triton_backward)
def backward_flops(grad: Any, output: Any, log_sum: Any, *arguments: Any, **outputs: Any) -> int:
    """Logits once more, and the gradients of weights, maps and, where deformed, of the shift."""
    found = multiply_adds(*arguments)
    return (7 if found.deformed else 5) * (found.logits + found.output)


def wanted_gradients(call: Call, grad: Tensor, kept: Tensors, wanted: Sequence[bool]) -> Sequence[Tensor]:
    """The gradients that are wanted, in order."""
    found = triton_backward(grad, *kept, *flat(call), list(wanted))
    return [x for x, here in zip(found, wanted, strict=True) if here]


KERNELS = Kernels(
    "triton",
    lambda call: triton_forward(*flat(call)),
    wanted_gradients,
    lambda call: triton_forward(*flat(call))[0],
)


def attend(call: Call) -> Tensor:
    """Slide attention by fused kernels."""
    return derivatives.attend(call, KERNELS)
