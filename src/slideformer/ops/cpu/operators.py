# SPDX-License-Identifier: Apache-2.0
"""The kernels as PyTorch operators, which autograd, compilers and FLOP counters know.

The backward pass computes the weights anew and keeps only the arguments.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from slideformer.ops.call import Call
from slideformer.ops.cpu import library

OPTIONAL = ("shift_weight", "shift_bias", "key_bias", "logit_bias")
ARGUMENTS = (
    "Tensor query, Tensor key, Tensor value, Tensor? shift_weight, Tensor? shift_bias, Tensor? key_bias, "
    "Tensor? logit_bias, int[] kernel_size, int[] dilation, str border, float scale"
)


def readable(x: Tensor) -> Tensor:
    """The map itself where its channels lie side by side, else a copy."""
    return x if x.stride(4) == 1 or x.shape[4] == 1 else x.contiguous()


def dense(parameters: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
    """The optional tensors that there are, by name, in float32."""
    return {
        name: x.to(torch.float32).contiguous()
        for name, x in zip(OPTIONAL, parameters, strict=True)
        if x is not None
    }


def options(
    parameters: dict[str, Tensor], kernel_size: list[int], dilation: list[int], border: str, scale: float
) -> dict[str, Any]:
    """Those fields of a call that are neither sizes nor maps."""
    logit_bias = parameters.get("logit_bias")
    return {
        "border": library.BORDERS[border],
        "relative": int(logit_bias is not None and logit_bias.ndim == 3),
        "kernel_size": tuple(kernel_size),
        # However large, a dilation beyond the map reads nothing but what lies outside.
        "dilation": tuple(min(step, 2**31 - 1) for step in dilation),
        "scale": scale,
        **{name: x.data_ptr() for name, x in parameters.items()},
    }


@torch.library.custom_op("slideformer::cpu_forward", mutates_args=(), schema=f"({ARGUMENTS}) -> Tensor")
def cpu_forward(
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
) -> Tensor:
    """Slide attention; arguments as in `slide_attention`. Returns ``(B, H, W, G, D')``."""
    output = value.new_empty(value.shape)
    maps = {"query": readable(query), "key": readable(key), "value": readable(value), "output": output}
    parameters = dense((shift_weight, shift_bias, key_bias, logit_bias))
    numbers = options(parameters, kernel_size, dilation, border, scale)
    library.run("forward", library.c_call(query, value, maps=maps, numbers=numbers))
    return output


@torch.library.custom_op(
    "slideformer::cpu_backward", mutates_args=(), schema=f"(Tensor grad_output, {ARGUMENTS}) -> Tensor[]"
)
def cpu_backward(
    grad_output: Tensor,
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
) -> list[Tensor]:
    """Gradients of query, key and value and of those optional tensors that there are, in this order."""
    names = ("query", "key", "value")
    grads = {f"grad_{name}": x.new_empty(x.shape) for name, x in zip(names, (query, key, value), strict=True)}
    maps = {"query": readable(query), "key": readable(key), "value": readable(value)}
    maps |= {"grad_output": readable(grad_output), **grads}
    given = (shift_weight, shift_bias, key_bias, logit_bias)
    parameters = dense(given)
    grad_parameters = {f"grad_{name}": torch.empty_like(x) for name, x in parameters.items()}
    numbers = options(parameters, kernel_size, dilation, border, scale)
    numbers |= {name: x.data_ptr() for name, x in grad_parameters.items()}
    library.run("backward", library.c_call(query, value, maps=maps, numbers=numbers))
    dtypes = [x.dtype for x in given if x is not None]
    cast = (x.to(dtype) for x, dtype in zip(grad_parameters.values(), dtypes, strict=True))
    return [*grads.values(), *cast]


@cpu_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Tensor:
    return value.new_empty(value.shape)


@cpu_backward.register_fake
def _(grad_output: Tensor, *arguments: Any) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in arguments[:7] if x is not None]


def keep_arguments(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep the arguments for the backward pass."""
    ctx.save_for_backward(*inputs[:7])
    ctx.options = inputs[7:]


def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of the arguments of `cpu_forward`."""
    tensors = ctx.saved_tensors
    found = iter(cpu_backward(grad_output, *tensors, *ctx.options))
    return (*(None if x is None else next(found) for x in tensors), *(None for _ in ctx.options))


def refuse_second_derivative(ctx: Any, *grads: Any) -> NoReturn:
    """There is no kernel for the derivative of the backward pass.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        'slide attention has second derivatives with backend="matmul", got backend "cpu"; '
        'pass backend="matmul" to slide_attention, or enter the layers with it'
    )


cpu_forward.register_autograd(backward, setup_context=keep_arguments)
cpu_backward.register_autograd(refuse_second_derivative)


def multiply_adds(
    query: torch.Size, value: torch.Size, weight: torch.Size | None, taps: int
) -> tuple[int, int]:
    """Multiply-adds of the logits and of the output: T a channel, and T T to deform."""
    positions = query[0] * query[1] * query[2] * query[3]
    each = positions * (taps if weight is None else taps + taps * taps)
    return each * query[4], each * value[4]


@register_flop_formula(torch.ops.slideformer.cpu_forward)
def forward_flops(query: Any, key: Any, value: Any, weight: Any, *rest: Any, **kwargs: Any) -> int:
    """Floating-point operations of the forward pass, a multiply-add counted as two."""
    return 2 * sum(multiply_adds(query, value, weight, rest[3][0] * rest[3][1]))


@register_flop_formula(torch.ops.slideformer.cpu_backward)
def backward_flops(
    grad: Any, query: Any, key: Any, value: Any, weight: Any, *rest: Any, **kwargs: Any
) -> int:
    """Of the backward pass, which computes the logits anew, and for each sum two gradients.

    Deformed, the gradients of a map and of its factor share one sum.
    """
    logits, output = multiply_adds(query, value, weight, rest[3][0] * rest[3][1])
    return 2 * (3 * logits + (2 if weight is None else 3) * output)


def refusal(call: Call) -> str | None:
    """Why the kernels cannot take a call."""
    # On "meta" nothing runs: that is where a call is explained and counted.
    if call.query.device.type not in ("cpu", "meta"):
        return f"its tensors must be on a CPU, got {call.query.device}"
    if call.query.dtype not in library.DTYPES:
        return f"its dtype must be float32, float16 or bfloat16, got {call.query.dtype}; use .float()"
    if torch.compiler.is_exporting():
        return "its operators exist in this package only, and the exported graph runs elsewhere"
    return library.missing()


def attend(call: Call) -> Tensor:
    """Slide attention by the kernels."""
    return cpu_forward(
        call.query,
        call.key,
        call.value,
        call.shift_weight,
        call.shift_bias,
        call.key_bias,
        call.logit_bias,
        list(call.window.kernel_size),
        list(call.window.dilation),
        call.window.border,
        call.scale,
    )
