# SPDX-License-Identifier: Apache-2.0
"""The shift as the kernels read it, kept until its parameters change."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter as Stored

from slideformer.ops.triton.devices import stream_of
from slideformer.ops.triton.forward_deformed import pack_shift
from slideformer.ops.triton.plans import Plan

Parameters = Sequence[Tensor | None]
Reference = weakref.ref[Tensor]


class Kept(NamedTuple):
    """A packed shift, the parameters that it is of, and the state that they were in."""

    weight: Reference
    bias: Reference | None
    key_bias: Reference | None
    state: tuple[object, ...]
    packed: Tensor

    def is_of(self, weight: Tensor, bias: Tensor | None, key_bias: Tensor | None) -> bool:
        """Whether these are the very parameters."""
        return (
            self.weight() is weight
            and (None if self.bias is None else self.bias()) is bias
            and (None if self.key_bias is None else self.key_bias()) is key_bias
        )


# By the number of the weight, which takes its entry away when it goes.
KEPT: dict[int, Kept] = {}


def dense(x: Tensor | None) -> Tensor | None:
    """A parameter as the kernels read it; they are small."""
    return None if x is None else x.contiguous()


def bytes_of(mask: Tensor | None) -> Tensor | None:
    """A mask as the kernels read it."""
    return None if mask is None else mask.contiguous().view(torch.uint8)


def packed_shift(plan: Plan, weight: Tensor, bias: Tensor | None, key_bias: Tensor | None) -> Tensor:
    """The shift as the kernels read it: (T + 1 + G, D', T'), see `pack_shift`.

    What is trained changes before it is read again, and memory of other tensors may be another's in the next
    call, uncounted. Of parameters that are not trained the packed shift is kept, and with it no more than its
    own memory; PyTorch counts what is written to them in place.
    """
    parameters = weight, bias, key_bias
    state = state_of(parameters)
    stream = None if state is None else stream_of(weight.device)
    if stream is None:
        return pack(plan, parameters)
    number, state = id(weight), (state, stream, plan.sizes.dtype, plan.packed_shape)
    kept = KEPT.get(number)
    if kept is not None and kept.state == state and kept.is_of(weight, bias, key_bias):
        return kept.packed
    packed = pack(plan, parameters)
    own = weakref.ref(weight, lambda _: KEPT.pop(number, None))
    KEPT[number] = Kept(own, reference(bias), reference(key_bias), state, packed)
    return packed


def reference(x: Tensor | None) -> Reference | None:
    """A reference that does not keep a tensor alive."""
    return None if x is None else weakref.ref(x)


def state_of(parameters: Parameters) -> tuple[object, ...] | None:
    """A tuple that changes with the parameters; None where one is trained, or changes are not counted."""
    state: list[object] = []
    for x in parameters:
        if x is not None:
            if type(x) is not Stored or x.requires_grad or x.is_inference():
                return None
            state += (x.data_ptr(), x._version, x.dtype, x.shape, x.stride())
    return tuple(state)


def pack(plan: Plan, parameters: Parameters) -> Tensor:
    """Lay out the shift."""
    weight, bias, key_bias = parameters
    assert weight is not None
    packed = torch.empty(plan.packed_shape, dtype=plan.sizes.dtype, device=weight.device)
    plan.run(pack_shift, dense(weight), dense(bias), dense(key_bias), packed)
    return packed
