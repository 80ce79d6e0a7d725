# SPDX-License-Identifier: Apache-2.0
"""The kernels as PyTorch operators, which autograd, compilers and FLOP counters know.

The backward pass computes the weights again and keeps only the arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
    differentiable,
    flat,
    forward_flops,
    keep_arguments,
    multiply_adds,
    no_second_derivative,
)


def readable(x: Tensor) -> Tensor:
    """The map itself where its channels are contiguous, else a copy."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def float_parameters(call: Call) -> dict[str, Tensor]:
    """The optional tensors that there are, by name, in float32."""
    parameters = {name: getattr(call, name) for name in PARAMETERS}
    return {name: x.to(torch.float32).contiguous() for name, x in parameters.items() if x is not None}


def readable_mask(call: Call) -> Call:
    """The call with its mask, if it has one, dense in memory."""
    mask = call.key_mask
    return call if mask is None or mask.is_contiguous() else replace(call, key_mask=mask.contiguous())


def fields_of(call: Call, parameters: dict[str, Tensor]) -> dict[str, Any]:
    """The fields of the C structure for the optional tensors."""
    logit_bias = parameters.get("logit_bias")
    relative = logit_bias is not None and call.window.is_table(logit_bias)
    return {"relative": int(relative), **{name: x.data_ptr() for name, x in parameters.items()}}


@torch.library.custom_op("slideformer::cpu_forward", mutates_args=(), schema=f"({ARGUMENTS}) -> Tensor")
def cpu_forward(*arguments: Any) -> Tensor:
    """Slide attention: ``(B, *map, G, D')``."""
    call = readable_mask(call_of(*arguments))
    maps = {name: readable(getattr(call, name)) for name in MAPS}
    maps["output"] = output = call.value.new_empty(call.value.shape)
    parameters = float_parameters(call)
    library.run("forward", library.c_call(call, maps=maps, numbers=fields_of(call, parameters)))
    return output


@torch.library.custom_op(
    "slideformer::cpu_backward", mutates_args=(), schema=f"(Tensor grad_output, {ARGUMENTS}) -> Tensor[]"
)
def cpu_backward(grad_output: Tensor, *arguments: Any) -> list[Tensor]:
    """Gradients of query, key and value and of those optional tensors that there are, in this order."""
    call = readable_mask(call_of(*arguments))
    maps = {name: readable(getattr(call, name)) for name in MAPS}
    grads = {f"grad_{name}": x.new_empty(x.shape) for name, x in maps.items()}
    parameters = float_parameters(call)
    grad_parameters = {f"grad_{name}": torch.empty_like(x) for name, x in parameters.items()}
    numbers = fields_of(call, parameters) | {name: x.data_ptr() for name, x in grad_parameters.items()}
    maps |= {"grad_output": readable(grad_output), **grads}
    library.run("backward", library.c_call(call, maps=maps, numbers=numbers))
    cast = (grad_parameters[f"grad_{name}"].to(getattr(call, name).dtype) for name in parameters)
    return [*grads.values(), *cast]


@cpu_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Tensor:
    return value.new_empty(value.shape)


@cpu_backward.register_fake
def _(grad_output: Tensor, *arguments: Any) -> list[Tensor]:
    tensors = arguments[:COUNT]
    return [x.new_empty(x.shape) for x, here in zip(tensors, differentiable(tensors), strict=True) if here]


def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of the arguments of `cpu_forward`."""
    tensors = ctx.saved_tensors
    found = iter(cpu_backward(grad_output, *tensors, *ctx.options))
    grads = (next(found) if here else None for here in differentiable(tensors))
    return (*grads, *(None for _ in ctx.options))


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
    return library.missing()


def chosen(found: Sequence[Tensor], call: Call, wanted: Sequence[bool]) -> list[Tensor]:
    """The gradients that are wanted, of all that there are."""
    rest = iter(found)
    every = [next(rest) if here else None for here in differentiable(call.tensors())]
    return [x for x, here in zip(every, wanted, strict=True) if here and x is not None]


def wanted_gradients(call: Call, grad: Tensor, kept: Tensors, wanted: Sequence[bool]) -> Sequence[Tensor]:
    """The gradients that are wanted, in order; the library computes them all."""
    return chosen(cpu_backward(grad, *flat(call)), call, wanted)


KERNELS = Kernels(
    "cpu", lambda call: (cpu_forward(*flat(call)),), wanted_gradients, lambda call: cpu_forward(*flat(call))
)


def attend(call: Call) -> Tensor:
    """Slide attention by the kernels."""
    return derivatives.attend(call, KERNELS)
