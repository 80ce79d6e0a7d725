# SPDX-License-Identifier: Apache-2.0
"""The kernels as PyTorch operators, which autograd, compilers and FLOP counters know.

The backward pass computes the weights again and keeps only the arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from slideformer.ops import derivatives
from slideformer.ops.call import MAPS, PARAMETERS, Call
from slideformer.ops.cpu import library
from slideformer.ops.derivatives import Kernels, Tensors
from slideformer.ops.exporting import exporting
from slideformer.ops.flat import (
    ARGUMENTS,
    COUNT,
    call_of,
    flat,
    forward_flops,
    multiply_adds,
    no_second_derivative,
)


def readable(x: Tensor) -> Tensor:
    """The map itself where its channels are contiguous, else a copy."""
    return x if x.stride(4) == 1 or x.shape[4] == 1 else x.contiguous()


def float_parameters(call: Call) -> dict[str, Tensor]:
    """The optional tensors that there are, by name, in float32."""
    parameters = {name: getattr(call, name) for name in PARAMETERS}
    return {name: x.to(torch.float32).contiguous() for name, x in parameters.items() if x is not None}


def fields_of(call: Call, parameters: dict[str, Tensor]) -> dict[str, Any]:
    """The fields of the C structure that are neither sizes nor maps."""
    logit_bias = parameters.get("logit_bias")
    return {
        "border": library.BORDERS[call.window.border[0]],
        "relative": int(logit_bias is not None and logit_bias.ndim == 3),
        "kernel_size": call.window.kernel_size,
        # However large, a dilation beyond the map reads only zeros.
        "dilation": tuple(min(step, 2**31 - 1) for step in call.window.dilation),
        "scale": call.scale,
        **{name: x.data_ptr() for name, x in parameters.items()},
    }


@torch.library.custom_op("slideformer::cpu_forward", mutates_args=(), schema=f"({ARGUMENTS}) -> Tensor")
def cpu_forward(*arguments: Any) -> Tensor:
    """Slide attention: ``(B, H, W, G, D')``."""
    call = call_of(*arguments)
    maps = {name: readable(getattr(call, name)) for name in MAPS}
    maps["output"] = output = call.value.new_empty(call.value.shape)
    parameters = float_parameters(call)
    numbers = fields_of(call, parameters)
    library.run("forward", library.c_call(call.query, call.value, maps=maps, numbers=numbers))
    return output


@torch.library.custom_op(
    "slideformer::cpu_backward", mutates_args=(), schema=f"(Tensor grad_output, {ARGUMENTS}) -> Tensor[]"
)
def cpu_backward(grad_output: Tensor, *arguments: Any) -> list[Tensor]:
    """Gradients of query, key and value and of those optional tensors that there are, in this order."""
    call = call_of(*arguments)
    maps = {name: readable(getattr(call, name)) for name in MAPS}
    grads = {f"grad_{name}": x.new_empty(x.shape) for name, x in maps.items()}
    parameters = float_parameters(call)
    grad_parameters = {f"grad_{name}": torch.empty_like(x) for name, x in parameters.items()}
    numbers = fields_of(call, parameters) | {name: x.data_ptr() for name, x in grad_parameters.items()}
    maps |= {"grad_output": readable(grad_output), **grads}
    library.run("backward", library.c_call(call.query, call.value, maps=maps, numbers=numbers))
    cast = (grad_parameters[f"grad_{name}"].to(getattr(call, name).dtype) for name in parameters)
    return [*grads.values(), *cast]


@cpu_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Tensor:
    return value.new_empty(value.shape)


@cpu_backward.register_fake
def _(grad_output: Tensor, *arguments: Any) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in arguments[:COUNT] if x is not None]


def keep_arguments(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep the arguments for the backward pass."""
    ctx.save_for_backward(*inputs[:COUNT])
    ctx.options = inputs[COUNT:]


def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of the arguments of `cpu_forward`."""
    tensors = ctx.saved_tensors
    found = iter(cpu_backward(grad_output, *tensors, *ctx.options))
    return (*(None if x is None else next(found) for x in tensors), *(None for _ in ctx.options))


cpu_forward.register_autograd(backward, setup_context=keep_arguments)
cpu_backward.register_autograd(no_second_derivative("cpu"))
register_flop_formula(torch.ops.slideformer.cpu_forward)(forward_flops)


@register_flop_formula(torch.ops.slideformer.cpu_backward)
def backward_flops(grad: Any, *arguments: Any, **outputs: Any) -> int:
    """Floating-point operations of the backward pass: the logits again, and for each sum two gradients.

    Deformed, the gradients of a map and of its factor share one sum.
    """
    found = multiply_adds(*arguments)
    both = found.logits + found.output
    return 2 * (3 * both if found.deformed else found.logits + 2 * both)


def refusal(call: Call) -> str | None:
    """The reason why the kernels cannot take a call, as a sentence, or None."""
    # On "meta" nothing runs: that is where a call is explained and counted.
    if call.query.device.type not in ("cpu", "meta"):
        return f"its tensors must be on a CPU, got {call.query.device}"
    if call.query.dtype not in library.DTYPES:
        return f"its dtype must be float32, float16 or bfloat16, got {call.query.dtype}; use .float()"
    if exporting():
        return "its operators exist in this package only, and the exported graph runs elsewhere"
    if len(call.map_size) != 2 or len(set(call.window.border)) > 1 or "wrap" in call.window.border:
        return "it takes maps of two axes with one border"
    if call.key_mask is not None:
        return "it takes no key_mask"
    return library.missing()


def wanted_gradients(call: Call, grad: Tensor, kept: Tensors, wanted: Sequence[bool]) -> Sequence[Tensor]:
    """The gradients that are wanted, in order; the library computes them all."""
    found = cpu_backward(grad, *flat(call))
    there = (here for x, here in zip(call.tensors(), wanted, strict=True) if x is not None)
    return [x for x, here in zip(found, there, strict=True) if here]


KERNELS = Kernels(
    "cpu", lambda call: (cpu_forward(*flat(call)),), wanted_gradients, lambda call: cpu_forward(*flat(call))
)


def attend(call: Call) -> Tensor:
    """Slide attention by the kernels."""
    return derivatives.attend(call, KERNELS)
