# SPDX-License-Identifier: Apache-2.0
"""The same sums as matrix products, in tiles, at the memory of one tile instead of 2 T maps.

The backward pass is made of the same sums as the forward pass (see `tiles`): it computes the weights
again, tile by tile, and keeps only the arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from slideformer.ops import derivatives, tap_linear, tap_rows
from slideformer.ops.call import TENSORS, Call
from slideformer.ops.derivatives import Kernels, Tensors
from slideformer.ops.exporting import exporting
from slideformer.ops.tiles import Operands, Shift, Tile, rows, split_into_tiles


def attend_at_once(call: Call, offset: Tensor | None) -> Tensor:
    """Attention of the whole batch in one tile of ordinary operators, to be exported."""
    size = call.map_size
    tile = Tile(call.window, slice(0, size[0]), call.window.starts(size, call.query.device))
    return Operands.of(call, offset).attend(tile).to(call.value.dtype)


@dataclass
class Gradients:
    """Sums of the gradients over tiles, in the dtype of the computation."""

    key: Tensor  # padded
    value: Tensor  # padded
    weight: Tensor | None  # (T, T, D) [input tap, output tap, channel]
    bias: Tensor | None  # (T, D)
    key_bias: Tensor | None
    offset: Tensor | None  # (T, b, *map, G), a view of the sum for the whole batch

    @classmethod
    def zeros(cls, operands: Operands, earlier: Gradients | None, offset: Tensor | None) -> Gradients:
        """Start at zero for these maps; the parameters' sums continue those of earlier maps.

        Args:
            operands: of these maps.
            earlier: sums of earlier maps, where there are some.
            offset: where the gradients of these maps' logit offset, ``(b, *map, G, T)``, are summed.
        """
        offset = None if offset is None else offset.movedim(-1, 0)

        def zeros(x: Tensor) -> Tensor:
            return torch.zeros(x.shape, dtype=operands.dtype, device=x.device)

        maps = zeros(operands.key), zeros(operands.value)
        if earlier is not None:
            return cls(*maps, earlier.weight, earlier.bias, earlier.key_bias, offset)
        weight, bias = (
            None if x is None else zeros(x.mT) for x in (operands.shift.weight, operands.shift.bias)
        )
        key_bias = None if operands.key_bias is None else zeros(operands.key_bias)
        return cls(*maps, weight, bias, key_bias, offset)

    def add_tile(self, operands: Operands, tile: Tile, grad_output: Tensor) -> Tensor:
        """Add one tile's share and return the gradient of its queries; the weights are computed again."""
        query, shift = operands.scaled_query(tile), operands.shift
        weights = operands.weights(tile, query)
        grad_output = grad_output[:, tile.rows].to(operands.dtype)
        grad_weights = shift.contract(grad_output, tile.taps(operands.value))
        grad_logits = weights * (grad_weights - (weights * grad_weights).sum(0))

        self.add_contract(operands.value, self.value, shift, tile, grad_output, weights)
        grad_query = self.add_contract(operands.key, self.key, shift, tile, query, grad_logits)
        if operands.key_bias is not None and self.key_bias is not None:
            grad_query += (grad_logits * operands.key_bias).sum(0)[..., None]
            positions = tuple(range(1, grad_logits.ndim - 1))
            self.key_bias += (query.sum(-1) * grad_logits).sum(positions, keepdim=True)
        if self.offset is not None:
            part = tile.of_offset(self.offset)
            part += grad_logits.sum_to_size(part.shape)
        return grad_query * operands.scale

    def add_contract(
        self, padded: Tensor, grad_padded: Tensor, shift: Shift, tile: Tile, x: Tensor, y: Tensor
    ) -> Tensor:
        """Gradients of ``<y, shift.contract(x, taps)>``: adds those of map and shift, returns that of x.

        The output is the transpose of such a contraction, ``<g, spread(A, v)> = <A, contract(g, v)>``,
        so values (x = g, y = A) and keys (x = q, y = the logits' gradient) are one case.
        """
        y_columns = y.flatten(1).T
        grad_x = torch.zeros_like(x) if shift.bias is None else (y_columns @ shift.bias.T).view(x.shape)
        # One buffer for all taps: memory fresh from the system costs more than the sums.
        product = torch.empty_like(x)
        if self.bias is not None:
            self.bias.addmm_(y.flatten(1), rows(x))
        for tap, seen in enumerate(tile.taps(padded)):
            factor = shift.factor(y, tap)
            grad_x.addcmul_(factor, seen)
            if self.weight is not None:
                self.weight[tap].addmm_(y.flatten(1), rows(torch.mul(x, seen, out=product)))
            tile.add(grad_padded, tap, factor, x)
        return grad_x


def of_maps(offset: Tensor | None, maps: slice) -> Tensor | None:
    """The part of a logit offset, which may be the same for the whole batch, for some of the maps."""
    return offset if offset is None or len(offset) == 1 else offset[maps]


def tiled(call: Call, offset: Tensor | None) -> Tensor:
    """The output, tile by tile: ``(B, *map, G, D)``."""
    output = call.value.new_empty(call.value.shape)
    for maps, part, tiles in split_into_tiles(call):
        operands = Operands.of(part, of_maps(offset, maps))
        for tile in tiles:
            output[maps, tile.rows] = operands.attend(tile)
    return output


class TiledAttention(torch.autograd.Function):
    """Both passes for a compiler, which takes no functions with a derivative in forward mode."""

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        """The output, ``(B, *map, G, D)``, from the tensors of a call, its logit offset, window and scale."""
        *tensors, offset, window, scale = arguments
        return tiled(Call.of(tensors, window, scale), offset)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the inputs."""
        *tensors, ctx.window, ctx.scale = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every tensor argument."""
        *tensors, offset = ctx.saved_tensors
        grads = gradients(Call.of(tensors, ctx.window, ctx.scale), offset, grad_outputs[0])
        needed = zip((*TENSORS, "offset"), ctx.needs_input_grad, strict=False)
        return (*(grads.get(name) if here else None for name, here in needed), None, None)


def gradients(call: Call, offset: Tensor | None, grad_output: Tensor) -> dict[str, Tensor]:
    """Gradients of the tensors of a call and of its logit offset, by name, each in its own dtype."""
    size = call.map_size
    query, key, value = (x.new_empty(x.shape) for x in (call.query, call.key, call.value))
    total, grad_offset = None, None if offset is None else torch.zeros_like(offset)
    for maps, part, tiles in split_into_tiles(call):
        operands = Operands.of(part, of_maps(offset, maps))
        total = Gradients.zeros(operands, total, of_maps(grad_offset, maps))
        for tile in tiles:
            query[maps, tile.rows] = total.add_tile(operands, tile, grad_output[maps])
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


def wanted_gradients(call: Call, grad: Tensor, kept: Tensors, wanted: Sequence[bool]) -> Sequence[Tensor]:
    """The gradients that are wanted, in order."""
    bias = call.logit_bias
    with torch.enable_grad():
        bias = None if bias is None else bias.detach().requires_grad_()
        offset = replace(call, logit_bias=bias).logit_offset()
    grads = gradients(call, None if offset is None else offset.detach(), grad)
    names = [name for name, here in zip(TENSORS, wanted, strict=True) if here]
    if "logit_bias" in names and offset is not None and bias is not None:
        (grads["logit_bias"],) = torch.autograd.grad(offset, bias, grads["offset"])
    return [grads[name] for name in names]


def compiled(call: Call) -> Tensor:
    """Slide attention under a compiler, as one function with first derivatives."""
    tensors = replace(call, logit_bias=None).tensors()  # the offset has the bias
    output: Tensor = TiledAttention.apply(*tensors, call.logit_offset(), call.window, call.scale)
    return output


KERNELS = Kernels(
    "matmul", lambda call: (tiled(call, call.logit_offset()),), wanted_gradients, compiled, portable=True
)


def attend(call: Call) -> Tensor:
    """Slide attention as matrix products."""
    if exporting() and call.shift_weight is not None:
        return tap_linear.attend(call)
    if exporting() and call.shift_bias is None:
        return tap_rows.attend(call)
    if exporting():
        return attend_at_once(call, call.logit_offset())
    return derivatives.attend(call, KERNELS)
