# SPDX-License-Identifier: Apache-2.0
"""The same sums as matrix products, in tiles, at the memory of one tile instead of 2 T maps.

The backward pass is made of the same sums as the forward pass (see `tiles`): it computes the weights
again, tile by tile, and keeps only the arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from slideformer.ops import derivatives, shift, tap_linear, tap_rows
from slideformer.ops.call import TENSORS, Call
from slideformer.ops.derivatives import Kernels, Tensors
from slideformer.ops.exporting import exporting
from slideformer.ops.tile_gradients import Gradients
from slideformer.ops.tiles import Operands, Tile, split_into_tiles


def attend_at_once(call: Call, offset: Tensor | None) -> Tensor:
    """Attention of the whole batch in one tile of ordinary operators, to be exported."""
    size = call.map_size
    tile = Tile(call.window, slice(0, size[0]), call.window.starts(size, call.query.device))
    return Operands.of(call, offset).attend(tile).to(call.value.dtype)


@dataclass(frozen=True)
class Passes:
    """The passes over tiles of the operator or of a half of it.

    Attributes:
        offset: the part of the logits that does not depend on the query, where there is one.
        empty: allocates the output.
        forward: computes a tile of the output.
        backward: adds a tile's share to the gradients, and computes that of its queries, from the gradient of
            the output, which has all tiles.
    """

    offset: Callable[[Call], Tensor | None]
    empty: Callable[[Call], Tensor]
    forward: Callable[[Operands, Tile], Tensor]
    backward: Callable[[Gradients, Operands, Tile, Tensor], Tensor]


def of_maps(offset: Tensor | None, maps: slice) -> Tensor | None:
    """The part of a logit offset, which may be the same for the whole batch, for some of the maps."""
    return offset if offset is None or len(offset) == 1 else offset[maps]


def tiled(call: Call, offset: Tensor | None, passes: Passes) -> Tensor:
    """The output, tile by tile."""
    output = passes.empty(call)
    for maps, part, tiles in split_into_tiles(call):
        operands = Operands.of(part, of_maps(offset, maps))
        for tile in tiles:
            output[maps, tile.rows] = passes.forward(operands, tile)
    return output


class Tiled(torch.autograd.Function):
    """Both passes for a compiler, which takes no functions with a derivative in forward mode."""

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        """The output from the tensors of a call, its logit offset, window, scale and passes."""
        *tensors, offset, window, scale, passes = arguments
        return tiled(Call.of(tensors, window, scale), offset, passes)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the inputs."""
        *tensors, ctx.window, ctx.scale, ctx.passes = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every tensor argument."""
        *tensors, offset = ctx.saved_tensors
        call, of_offset = Call.of(tensors, ctx.window, ctx.scale), ctx.needs_input_grad[len(TENSORS)]
        grads = gradients(call, offset, grad_outputs[0], ctx.passes, of_offset=of_offset)
        needed = zip((*TENSORS, "offset"), ctx.needs_input_grad, strict=False)
        return (*(grads.get(name) if here else None for name, here in needed), None, None, None)


def gradients(
    call: Call, offset: Tensor | None, grad_output: Tensor, passes: Passes, *, of_offset: bool
) -> dict[str, Tensor]:
    """Gradients of a call's tensors and, if asked, of its logit offset, by name, each in its own dtype."""
    size = call.map_size
    query, key, value = (x.new_empty(x.shape) for x in (call.query, call.key, call.value))
    # As large as the offset, which a mask or a table of biases makes T numbers a position.
    total, grad_offset = None, torch.zeros_like(offset) if of_offset and offset is not None else None
    for maps, part, tiles in split_into_tiles(call):
        operands = Operands.of(part, of_maps(offset, maps))
        total = Gradients.zeros(operands, total, of_maps(grad_offset, maps))
        for tile in tiles:
            query[maps, tile.rows] = passes.backward(total, operands, tile, grad_output[maps])
        key[maps] = call.window.fold(total.key, size)
        value[maps] = call.window.fold(total.value, size)
    assert total is not None  # even a batch of none is one part
    grads = {"query": query, "key": key, "value": value}

    def add(name: str, x: Tensor | None, grad: Tensor | None) -> None:
        # A copy: PyTorch gives no tangents to views of a tensor that it does not know.
        if x is not None and grad is not None:
            grads[name] = grad.to(x.dtype, copy=True)

    add("shift_weight", call.shift_weight, None if total.weight is None else total.weight.permute(2, 1, 0))
    add("shift_bias", call.shift_bias, None if total.bias is None else total.bias.T)
    add("key_bias", call.key_bias, None if total.key_bias is None else total.key_bias.flatten(0, -2).T)
    add("offset", offset, grad_offset)
    return grads


def kernels_of(passes: Passes, formula: Callable[[Call], Tensor]) -> Kernels:
    """The same with every derivative; ``formula`` computes the call by ordinary operators."""

    def forward(call: Call) -> Tensors:
        return (tiled(call, passes.offset(call), passes),)

    def backward(call: Call, grad: Tensor, kept: Tensors, wanted: Sequence[bool]) -> Sequence[Tensor]:
        names = [name for name, here in zip(TENSORS, wanted, strict=True) if here]
        bias, of_bias = call.logit_bias, "logit_bias" in names
        with torch.enable_grad():
            bias = None if bias is None else bias.detach().requires_grad_()
            offset = passes.offset(replace(call, logit_bias=bias))
        detached = None if offset is None else offset.detach()
        grads = gradients(call, detached, grad, passes, of_offset=of_bias)
        if of_bias and offset is not None and bias is not None:
            (grads["logit_bias"],) = torch.autograd.grad(offset, bias, grads["offset"])
        return [grads[name] for name in names]

    def compiled(call: Call) -> Tensor:
        tensors = replace(call, logit_bias=None).tensors()  # the offset has the bias
        output: Tensor = Tiled.apply(*tensors, passes.offset(call), call.window, call.scale, passes)
        return output

    return Kernels("matmul", forward, backward, compiled, portable=True, formula=formula)


KERNELS = kernels_of(
    Passes(
        Call.tap_offset,
        lambda call: call.value.new_empty(call.value.shape),
        Operands.attend,
        Gradients.add_tile,
    ),
    shift.attend,
)
LOGITS = kernels_of(
    Passes(
        Call.tap_offset,
        lambda call: call.query.new_empty((*call.query.shape[:-1], call.window.taps), dtype=call.dtype),
        lambda operands, tile: operands.logits(tile, operands.scaled_query(tile)).movedim(0, -1),
        Gradients.add_tile_of_logits,
    ),
    shift.logits,
)
VALUES = kernels_of(
    Passes(
        lambda call: None,
        lambda call: call.value.new_empty(call.value.shape),
        lambda operands, tile: operands.values(tile, operands.weights(tile)),
        Gradients.add_tile_of_values,
    ),
    shift.values,
)


def attend(call: Call) -> Tensor:
    """Slide attention as matrix products."""
    if exporting() and call.shift_weight is not None:
        return tap_linear.attend(call)
    if exporting() and call.shift_bias is None:
        return tap_rows.attend(call)
    if exporting():
        return attend_at_once(call, call.tap_offset())
    return derivatives.attend(call, KERNELS)


def logits(call: Call) -> Tensor:
    """The logits as matrix products: ``(B, *map, G, T)``."""
    return shift.logits(call) if exporting() else derivatives.attend(call, LOGITS)


def values(call: Call) -> Tensor:
    """The sum of values, whose weights are the call's query, as matrix products: ``(B, *map, G, D)``."""
    return shift.values(call) if exporting() else derivatives.attend(call, VALUES)
