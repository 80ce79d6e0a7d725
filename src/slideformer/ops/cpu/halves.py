# SPDX-License-Identifier: Apache-2.0
"""The two halves of the operator by the kernels in C, as PyTorch operators; the first also with its softmax.

A half is a call in which one map has no channels. Weights, logits and their gradients are dense arrays in
float32, ``(B, *map, G, T)``; a gradient of the logit of a tap that is left out is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from slideformer.ops import derivatives, shift
from slideformer.ops.call import TENSORS, Call
from slideformer.ops.cpu import library
from slideformer.ops.cpu.operators import (
    chosen,
    fields_of,
    float_parameters,
    readable,
    readable_mask,
)
from slideformer.ops.derivatives import Kernels, Tensors
from slideformer.ops.flat import (
    ARGUMENTS,
    call_of,
    count_half,
    differentiable,
    flat,
    keep_arguments,
    no_second_derivative,
)

# As in csrc/slideformer.h, where 0 is the operator as one.
LOGITS, VALUES, WEIGHTS = 1, 2, 3


def run(
    direction: str,
    part: int,
    call: Call,
    maps: dict[str, Tensor],
    arrays: dict[str, Tensor],
    grads: dict[str, Tensor],
) -> None:
    """Run the kernels of one half.

    Args:
        direction: ``"forward"`` or ``"backward"``.
        part: `LOGITS`, `WEIGHTS` or `VALUES`.
        call: the half.
        maps: by name.
        arrays: weights and their gradient, by name, dense and in float32.
        grads: of the optional tensors, by name, in float32.
    """
    parameters = float_parameters(call)
    pointers = {**arrays, **{f"grad_{name}": x for name, x in grads.items()}}
    numbers = {
        "part": part,
        **fields_of(call, parameters),
        **{name: x.data_ptr() for name, x in pointers.items()},
    }
    # The query of a sum of values are its weights: they have no say in dtype and channels.
    sizes = readable_mask(replace(call, query=call.value) if part == VALUES else call)
    library.run(direction, library.c_call(sizes, maps=maps, numbers=numbers))


def dense(x: Tensor) -> Tensor:
    """Weights, or their gradient, as the kernels read them."""
    return x.to(torch.float32).contiguous()


def empty_weights(like: Tensor, taps: int) -> Tensor:
    """Allocate ``(B, *map, G, T)`` for a map ``(B, *map, G, D)``."""
    return like.new_empty((*like.shape[:-1], taps), dtype=torch.float32)


def empty_gradients(call: Call) -> dict[str, Tensor]:
    """Allocate the gradients of the optional tensors that there are, by name."""
    return {name: torch.empty_like(x) for name, x in float_parameters(call).items()}


def all_gradients(call: Call, found: dict[str, Tensor]) -> list[Tensor]:
    """A gradient for every tensor that has one, in order; of a map without channels there is nothing."""
    tensors = zip(TENSORS, call.tensors(), differentiable(call.tensors()), strict=True)
    return [
        found[name].to(x.dtype) if name in found else x.new_empty(x.shape)
        for name, x, here in tensors
        if here and x is not None
    ]


def first_half(part: int, arguments: tuple[Any, ...]) -> Tensor:
    """The logits or the weights ``(B, *map, G, T)``."""
    call = call_of(*arguments)
    found = empty_weights(call.query, call.window.taps)
    maps = {"query": readable(call.query), "key": readable(call.key)}
    run("forward", part, call, maps, {"weights": found}, {})
    return found


def first_half_backward(part: int, grad: Tensor, arguments: tuple[Any, ...]) -> list[Tensor]:
    """Gradients of every tensor of a call of logits or weights that is there, in order."""
    call = call_of(*arguments)
    maps = {"query": readable(call.query), "key": readable(call.key)}
    grad_maps = {name: x.new_empty(x.shape) for name, x in maps.items()}
    grads = empty_gradients(call)
    maps |= {f"grad_{name}": x for name, x in grad_maps.items()}
    run("backward", part, call, maps, {"grad_weights": dense(grad)}, grads)
    return all_gradients(call, {**grad_maps, **grads})


GRADIENTS = f"(Tensor grad, {ARGUMENTS}) -> Tensor[]"


@torch.library.custom_op("slideformer::cpu_logits", mutates_args=(), schema=f"({ARGUMENTS}) -> Tensor")
def cpu_logits(*arguments: Any) -> Tensor:
    """The logits."""
    return first_half(LOGITS, arguments)


@torch.library.custom_op("slideformer::cpu_logits_backward", mutates_args=(), schema=GRADIENTS)
def cpu_logits_backward(grad: Tensor, *arguments: Any) -> list[Tensor]:
    """Gradients of a call of logits."""
    return first_half_backward(LOGITS, grad, arguments)


@torch.library.custom_op("slideformer::cpu_weights", mutates_args=(), schema=f"({ARGUMENTS}) -> Tensor")
def cpu_weights(*arguments: Any) -> Tensor:
    """The weights."""
    return first_half(WEIGHTS, arguments)


@torch.library.custom_op("slideformer::cpu_weights_backward", mutates_args=(), schema=GRADIENTS)
def cpu_weights_backward(grad: Tensor, *arguments: Any) -> list[Tensor]:
    """Gradients of a call of weights."""
    return first_half_backward(WEIGHTS, grad, arguments)


@torch.library.custom_op("slideformer::cpu_values", mutates_args=(), schema=f"({ARGUMENTS}) -> Tensor")
def cpu_values(*arguments: Any) -> Tensor:
    """The sums of values ``(B, *map, G, D')``, whose weights are the call's query."""
    call = call_of(*arguments)
    output = call.value.new_empty(call.value.shape)
    maps = {"value": readable(call.value), "output": output}
    run("forward", VALUES, call, maps, {"weights": dense(call.query)}, {})
    return output


@torch.library.custom_op("slideformer::cpu_values_backward", mutates_args=(), schema=GRADIENTS)
def cpu_values_backward(grad: Tensor, *arguments: Any) -> list[Tensor]:
    """Gradients of every tensor of a call of values that is there, in order."""
    call = call_of(*arguments)
    weights = dense(call.query)
    grad_weights, grad_value = torch.empty_like(weights), call.value.new_empty(call.value.shape)
    grads = empty_gradients(call)
    maps = {
        "value": readable(call.value),
        "grad_output": readable(grad),
        "grad_value": grad_value,
    }
    run("backward", VALUES, call, maps, {"weights": weights, "grad_weights": grad_weights}, grads)
    return all_gradients(call, {"query": grad_weights, "value": grad_value, **grads})


@cpu_logits.register_fake
@cpu_weights.register_fake
def _(*arguments: Any) -> Tensor:
    call = call_of(*arguments)
    return empty_weights(call.query, call.window.taps)


@cpu_values.register_fake
def _(*arguments: Any) -> Tensor:
    value = call_of(*arguments).value
    return value.new_empty(value.shape)


def fake_gradients(grad: Tensor, *arguments: Any) -> list[Tensor]:
    """Gradients as a compiler sees them."""
    return all_gradients(call_of(*arguments), {})


def kernels_of(forward: Any, backward: Any, half: str, formula: Callable[[Call], Tensor]) -> Kernels:
    """The passes of a half by its two operators, which learn their derivatives and their cost here."""

    def derive(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        found = iter(backward(grad, *tensors, *ctx.options))
        grads = (next(found) if here else None for here in differentiable(tensors))
        return (*grads, *(None for _ in ctx.options))

    def wanted_gradients(call: Call, grad: Tensor, kept: Tensors, wanted: Sequence[bool]) -> Sequence[Tensor]:
        return chosen(backward(grad, *flat(call)), call, wanted)

    backward.register_fake(fake_gradients)
    forward.register_autograd(derive, setup_context=keep_arguments)
    backward.register_autograd(no_second_derivative("cpu"))
    count_half(forward, backward, half)
    return Kernels(
        "cpu",
        lambda call: (forward(*flat(call)),),
        wanted_gradients,
        lambda call: forward(*flat(call)),
        formula=formula,
    )


OF_LOGITS = kernels_of(cpu_logits, cpu_logits_backward, "logits", shift.logits)
OF_WEIGHTS = kernels_of(
    cpu_weights, cpu_weights_backward, "logits", lambda call: call.softmax(shift.logits(call))
)
OF_VALUES = kernels_of(cpu_values, cpu_values_backward, "output", shift.values)


def logits(call: Call) -> Tensor:
    """The logits by the kernels."""
    return derivatives.attend(call, OF_LOGITS)


def weights(call: Call) -> Tensor:
    """The softmax of the logits by the kernels."""
    return derivatives.attend(call, OF_WEIGHTS)


def values(call: Call) -> Tensor:
    """The sums of values by the kernels."""
    return derivatives.attend(call, OF_VALUES)
