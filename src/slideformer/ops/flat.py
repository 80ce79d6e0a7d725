# SPDX-License-Identifier: Apache-2.0
"""A call as flat arguments, the only kind that operators of torch take, and what fused operators share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from slideformer.ops.call import MAPS, MASK, TENSORS, Call
from slideformer.ops.window import Window

# As a schema of torch.library: first the tensors of a call, then its options.
OPTIONS = "int[] kernel_size, int[] dilation, str[] border, float scale"
ARGUMENTS = ", ".join((*(f"Tensor{'' if x in MAPS else '?'} {x}" for x in TENSORS), OPTIONS))
COUNT = len(TENSORS)


def flat(call: Call) -> tuple[Any, ...]:
    """The arguments of a call in the order of the schema."""
    window = call.window
    return (*call.tensors(), list(window.kernel_size), list(window.dilation), list(window.border), call.scale)


def call_of(*arguments: Any) -> Call:
    """The call of such arguments."""
    kernel_size, dilation, border, scale = arguments[COUNT:]
    return Call.of(arguments[:COUNT], Window(tuple(kernel_size), tuple(dilation), tuple(border)), scale)


def differentiable(tensors: Sequence[Any]) -> list[bool]:
    """Whether each tensor of a call is there and has a gradient."""
    return [x is not None and name != MASK for name, x in zip(TENSORS, tensors, strict=True)]


class MultiplyAdds(NamedTuple):
    """Multiply-adds of one forward pass."""

    logits: int
    output: int
    deformed: bool


def multiply_adds(*arguments: Any) -> MultiplyAdds:
    """Count those of a call, as flat arguments with shapes for tensors: T a channel, and T T to deform."""
    shapes = dict(zip(TENSORS, arguments, strict=False))
    query, taps = shapes["query"], math.prod(arguments[COUNT])
    deformed = shapes["shift_weight"] is not None
    each = math.prod(query[:-1]) * (taps + taps * taps * deformed)
    return MultiplyAdds(each * query[-1], each * shapes["value"][-1], deformed)


def forward_flops(*arguments: Any, **outputs: Any) -> int:
    """Floating-point operations of the forward pass, a multiply-add counted as two."""
    found = multiply_adds(*arguments)
    return 2 * (found.logits + found.output)


def keep_arguments(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Keep the arguments of a fused operator for its backward pass."""
    ctx.save_for_backward(*inputs[:COUNT])
    ctx.options = inputs[COUNT:]


def count_half(forward: Any, backward: Any, half: str) -> None:
    """Teach FLOP counters the operators of a half, whose multiply-adds have this name.

    Backward, two gradients share one sum where the taps are deformed, and the shift has a third.
    """

    def forward_flops(*arguments: Any, **outputs: Any) -> int:
        return 2 * int(getattr(multiply_adds(*arguments), half))

    def backward_flops(grad: Any, *arguments: Any, **outputs: Any) -> int:
        return (3 if multiply_adds(*arguments).deformed else 2) * forward_flops(*arguments)

    for operator, formula in ((forward, forward_flops), (backward, backward_flops)):
        name = operator._name.rpartition("::")[2]
        register_flop_formula(getattr(torch.ops.slideformer, name))(formula)


def no_second_derivative(backend: str) -> Callable[..., NoReturn]:
    """The derivative of a fused backward pass, for which there is no kernel: an error."""

    def reject(ctx: Any, *grads: Tensor) -> NoReturn:
        raise NotImplementedError(
            f'slide attention has second derivatives with backend="matmul", got backend "{backend}"; '
            'pass backend="matmul" to slide_attention, or build the layers with it'
        )

    return reject
