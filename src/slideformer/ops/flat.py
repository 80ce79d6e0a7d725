# SPDX-License-Identifier: Apache-2.0
"""A call as flat arguments, the only kind that operators of torch take, and what fused operators share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

from torch import Tensor

from slideformer.ops.call import Call
from slideformer.ops.window import Border, Window

# As a schema of torch.library: first the tensors of a call, then its options.
ARGUMENTS = (
    "Tensor query, Tensor key, Tensor value, Tensor? shift_weight, Tensor? shift_bias, Tensor? key_bias, "
    "Tensor? logit_bias, int[] kernel_size, int[] dilation, str border, float scale"
)
TENSORS = 7


def flat(call: Call) -> tuple[Any, ...]:
    """The arguments of a call in the order of the schema."""
    window = call.window
    return (*call.tensors(), list(window.kernel_size), list(window.dilation), window.border, call.scale)


def call_of(*arguments: Any) -> Call:
    """The call of such arguments."""
    query, key, value, *parameters = arguments[:TENSORS]
    rows, columns, border, scale = arguments[TENSORS:]
    window = Window((rows[0], rows[1]), (columns[0], columns[1]), cast("Border", border))
    return Call(query, key, value, window, scale, *parameters)


def multiply_adds(query: Sequence[int], value: Sequence[int], weight: Sequence[int] | None, taps: int) -> int:
    """Of the logits and of the output, from shapes: T a channel, and T T to deform."""
    positions = query[0] * query[1] * query[2] * query[3]
    return positions * (query[4] + value[4]) * (taps if weight is None else taps + taps * taps)


def no_second_derivative(backend: str) -> Callable[..., NoReturn]:
    """What the derivative of a fused backward pass does: there is no kernel for it."""

    def refuse(ctx: Any, *grads: Tensor) -> NoReturn:
        raise NotImplementedError(
            f'slide attention has second derivatives with backend="matmul", got backend "{backend}"; '
            'pass backend="matmul" to slide_attention, or enter the layers with it'
        )

    return refuse
