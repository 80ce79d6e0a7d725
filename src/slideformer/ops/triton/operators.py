# SPDX-License-Identifier: Apache-2.0
"""The kernels as operators of torch: shapes for compilers, derivatives, and a count of operations."""

from __future__ import annotations

from typing import Any, NoReturn, cast

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from slideformer.ops.call import Call
from slideformer.ops.triton import gradients, launch
from slideformer.ops.window import Border, Window

ARGUMENTS = (
    "Tensor query, Tensor key, Tensor value, Tensor? shift_weight, Tensor? shift_bias, Tensor? key_bias, "
    "Tensor? logit_bias, int[] kernel_size, int[] dilation, str border, float scale"
)


def call_of(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    shift_weight: Tensor | None,
    shift_bias: Tensor | None,
    key_bias: Tensor | None,
    logit_bias: Tensor | None,
    kernel_size: list[int],
    dilation: list[int],
    border: str,
    scale: float,
) -> Call:
    """The operators' flat arguments as a call."""
    window = Window((kernel_size[0], kernel_size[1]), (dilation[0], dilation[1]), cast("Border", border))
    return Call(query, key, value, window, scale, shift_weight, shift_bias, key_bias, logit_bias)


def empty_output(call: Call) -> tuple[Tensor, Tensor]:
    """Dense tensors for what the forward pass gives.

    A deformed call, whose backward pass computes the whole softmax anew, keeps no logarithms of sums.
    """
    log_sum_shape = (0,) if call.deformed else call.query.shape[:4]
    return call.value.new_empty(call.value.shape), call.query.new_empty(log_sum_shape, dtype=torch.float32)


@torch.library.custom_op(
    "slideformer::triton_forward", mutates_args=(), schema=f"({ARGUMENTS}) -> (Tensor, Tensor)"
)
def triton_forward(*arguments: Any) -> tuple[Tensor, Tensor]:
    """The output ``(B, H, W, G, D')`` and the logarithms of the softmax's sums, ``(B, H, W, G)``."""
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
        gradients.backward_into(grads, grad, output, log_sum, call, wanted)
    return grads


@triton_backward.register_fake
def _(grad: Tensor, output: Tensor, log_sum: Tensor, *arguments: Any) -> list[Tensor]:
    return empty_gradients(call_of(*arguments[:-1]), arguments[-1])


def empty_gradients(call: Call, wanted: list[bool]) -> list[Tensor]:
    """Dense tensors for the gradients, without elements where none is wanted."""
    return [
        call.query.new_empty(0) if x is None or not here else x.new_empty(x.shape)
        for x, here in zip(call.tensors(), wanted, strict=True)
    ]


def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """Keep the arguments, the output and, where the taps are not deformed, the logarithms of sums."""
    tensors, ctx.options = inputs[:7], inputs[7:]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*output, *tensors)


def derive(ctx: Any, grad: Tensor, grad_log_sum: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of the forward operator's arguments."""
    output, log_sum, *tensors = ctx.saved_tensors
    wanted = [x is not None and here for x, here in zip(tensors, ctx.needs_input_grad, strict=False)]
    grads = triton_backward(grad, output, log_sum, *tensors, *ctx.options, wanted)
    return (*(x if here else None for x, here in zip(grads, wanted, strict=True)), None, None, None, None)


def refuse(ctx: Any, *grads: Any) -> NoReturn:
    """There is no kernel for the derivative of the backward pass.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        'slide attention has second derivatives with backend="matmul", got backend "triton"; '
        'pass backend="matmul" to slide_attention, or enter the layers with it'
    )


triton_forward.register_autograd(derive, setup_context=keep)
triton_backward.register_autograd(refuse)


def attend(call: Call) -> Tensor:
    """Slide attention by fused kernels."""
    options = (list(call.window.kernel_size), list(call.window.dilation), call.window.border, call.scale)
    return triton_forward(*call.tensors(), *options)[0]


def multiply_adds(
    query: tuple[int, ...], value: tuple[int, ...], deformed: bool, kernel_size: list[int]
) -> int:
    """Multiply-adds of one pass over keys and one over values."""
    taps = kernel_size[0] * kernel_size[1]
    positions = query[0] * query[1] * query[2] * query[3]
    return positions * (query[4] + value[4]) * (taps + taps * taps * deformed)


@register_flop_formula(torch.ops.slideformer.triton_forward)
def forward_flops(
    query: tuple[int, ...],
    key: tuple[int, ...],
    value: tuple[int, ...],
    shift_weight: tuple[int, ...] | None,
    *others: Any,
    out_shape: Any = None,
) -> int:
    """Logits and output, a multiply-add counted as two."""
    return 2 * multiply_adds(query, value, shift_weight is not None, others[3])


@register_flop_formula(torch.ops.slideformer.triton_backward)
def backward_flops(
    grad: tuple[int, ...],
    output: tuple[int, ...],
    log_sum: tuple[int, ...],
    query: tuple[int, ...],
    key: tuple[int, ...],
    value: tuple[int, ...],
    shift_weight: tuple[int, ...] | None,
    *others: Any,
    out_shape: Any = None,
) -> int:
    """Logits once more, and what the gradients of weights, maps and, where deformed, of the shift take."""
    deformed = shift_weight is not None
    passes = 7 if deformed else 5
    return passes * multiply_adds(query, value, deformed, others[3])
