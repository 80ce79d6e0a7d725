# SPDX-License-Identifier: Apache-2.0
"""The same sums as matrix products, tap by tap: the shifted copies of the map never exist.

With ``k_u`` the map seen through input tap u, ``W_u = W[:, :, u]`` and ``*`` elementwise,

    logits = sum_u (q * k_u) W_u  + q b         a product (pixels x D) (D x T) a tap
    output = sum_u (A W_u^T) * v_u + A b^T      a product (pixels x T) (T x D) a tap,  A = softmax(logits)

equals the paper's convolutions at the memory of one tile of pixels instead of 2 T maps. The backward
pass is made of the same two sums; it recomputes the logits tile by tile and keeps only its inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from slideformer.ops.call import Call
from slideformer.ops.window import Window

# Elements of one tile of the map: small enough for a core's cache, large enough to hide the price of
# starting an operation. On a GPU a tile only has to bound the memory.
TILE_ELEMENTS = {"cpu": 1 << 17}
TILE_ELEMENTS_ELSEWHERE = 1 << 24


@dataclass(frozen=True)
class Tile:
    """Some rows of positions of some maps of the batch, and how each tap reads a padded map there."""

    window: Window
    batch: slice
    rows: slice
    starts: tuple[Tensor, Tensor] | None

    def taps(self, padded: Tensor) -> Iterator[Tensor]:
        """The map seen through each tap in turn: ``(b, rows, W, G, D)``."""
        for tap in range(self.window.taps):
            yield self.window.shifted(padded[self.batch], tap, self.rows, self.starts)

    def add(self, padded: Tensor, tap: int, update: Tensor) -> None:
        """Add to what a tap reads, in place."""
        self.window.add_shifted(padded[self.batch], tap, self.rows, self.starts, update)

    def of(self, x: Tensor) -> Tensor:
        """The tile of a map ``(B, H, W, ...)``."""
        return x[self.batch, self.rows]

    def of_offset(self, offset: Tensor) -> Tensor:
        """The rows of a logit offset that may be the same for all rows."""
        return offset if offset.shape[0] == 1 else offset[self.rows]


@dataclass(frozen=True)
class Shift:
    """The deformed shift by input tap: weight ``(T, D, T)``, a (D x T) matrix a tap, and bias ``(D, T)``."""

    weight: Tensor | None
    bias: Tensor | None

    @classmethod
    def of(cls, weight: Tensor | None, bias: Tensor | None, dtype: torch.dtype) -> Shift:
        """From the operator's ``(D, T, T)`` [channel, output tap, input tap]."""
        weight = None if weight is None else weight.to(dtype).permute(2, 0, 1).contiguous()
        return cls(weight, None if bias is None else bias.to(dtype))

    def contract(self, x: Tensor, taps: Iterator[Tensor]) -> Tensor:
        """``sum_u (x * m_u) W_u + x b``: ``(..., D)`` and a map's taps give ``(..., T)``."""
        if self.weight is None:
            y = torch.cat([(x * tap).sum(-1, keepdim=True) for tap in taps], dim=-1)
            return y if self.bias is None else y + x @ self.bias
        total = x.new_zeros((*x.shape[:-1], len(self.weight))) if self.bias is None else x @ self.bias
        total = total.flatten(0, -2)
        for tap, weight in zip(taps, self.weight, strict=True):
            total = total.addmm_((x * tap).flatten(0, -2), weight)
        return total.view(*x.shape[:-1], -1)

    def spread(self, y: Tensor, taps: Iterator[Tensor]) -> Tensor:
        """``sum_u (y W_u^T) * m_u + y b^T``: ``(..., T)`` and a map's taps give ``(..., D)``."""
        total = None if self.bias is None else y @ self.bias.T
        for tap, map_seen in enumerate(taps):
            factor = self.factor(y, tap)
            total = factor * map_seen if total is None else total.addcmul_(factor, map_seen)
        assert total is not None  # a window has at least one tap
        return total

    def factor(self, y: Tensor, tap: int) -> Tensor:
        """``y W_u^T``: what multiplies one input tap of the map."""
        return y[..., tap, None] if self.weight is None else y @ self.weight[tap].T


@dataclass(frozen=True)
class Operands:
    """A call with its maps padded and its parameters in the dtype of the computation."""

    query: Tensor
    key: Tensor  # padded
    value: Tensor  # padded
    shift: Shift
    key_bias: Tensor | None
    offset: Tensor | None
    scale: float
    dtype: torch.dtype

    @classmethod
    def of(cls, call: Call, offset: Tensor | None) -> Operands:
        """Pad and upcast; ``offset`` is the call's `Call.logit_offset`."""
        return cls(
            query=call.query,
            key=call.window.pad(call.key),
            value=call.window.pad(call.value),
            shift=Shift.of(call.shift_weight, call.shift_bias, call.dtype),
            key_bias=None if call.key_bias is None else call.key_bias.to(call.dtype),
            offset=offset,
            scale=call.scale,
            dtype=call.dtype,
        )

    def scaled_query(self, tile: Tile) -> Tensor:
        """The tile's queries times the scale: ``(b, rows, W, G, D)``."""
        return tile.of(self.query).to(self.dtype) * self.scale

    def weights(self, tile: Tile, query: Tensor) -> Tensor:
        """Softmax over the taps: ``(b, rows, W, G, T)``."""
        logits = self.shift.contract(query, tile.taps(self.key))
        if self.key_bias is not None:
            logits = logits + query.sum(-1, keepdim=True) * self.key_bias
        if self.offset is not None:
            logits = logits + tile.of_offset(self.offset)
        return logits.softmax(-1)

    def attend(self, tile: Tile) -> Tensor:
        """The tile's output: ``(b, rows, W, G, D)``."""
        return self.shift.spread(self.weights(tile, self.scaled_query(tile)), tile.taps(self.value))


def whole(call: Call) -> Tile:
    """All of the batch as one tile."""
    batch, height, width = call.query.shape[:3]
    return Tile(
        call.window, slice(0, batch), slice(0, height), call.window.starts(height, width, call.query.device)
    )


def tiles(call: Call) -> Iterator[Tile]:
    """The batch cut into tiles of a bounded size: some rows of one map, or some whole maps."""
    one = whole(call)
    # A compiler wants one short graph for any size, and plans the memory itself.
    if torch.compiler.is_compiling():
        yield one
        return
    batch, height, width, heads, channels = call.query.shape
    elements = TILE_ELEMENTS.get(call.query.device.type, TILE_ELEMENTS_ELSEWHERE)
    rows = min(height, max(1, elements // (width * heads * channels)))
    maps = max(1, elements // (height * width * heads * channels))
    for first in range(0, batch, maps):
        for top in range(0, height, rows):
            yield replace(
                one, batch=slice(first, min(batch, first + maps)), rows=slice(top, min(height, top + rows))
            )


def attend_whole(call: Call, offset: Tensor | None) -> Tensor:
    """Attention of the whole batch at once, of ordinary operators: to export, and for second derivatives."""
    return Operands.of(call, offset).attend(whole(call)).to(call.value.dtype)


@dataclass
class Gradients:
    """Sums of the gradients over the tiles, in the dtype of the computation."""

    query: Tensor
    key: Tensor  # padded
    value: Tensor  # padded
    weight: Tensor | None
    bias: Tensor | None
    key_bias: Tensor | None
    offset: Tensor | None

    @classmethod
    def zeros(cls, operands: Operands) -> Gradients:
        """Nothing summed yet."""

        def like(x: Tensor | None) -> Any:
            return None if x is None else torch.zeros_like(x, dtype=operands.dtype)

        shift = operands.shift
        maps = (
            torch.zeros(x.shape, dtype=operands.dtype, device=x.device)
            for x in (operands.key, operands.value)
        )
        return cls(
            torch.empty_like(operands.query, memory_format=torch.contiguous_format),
            *maps,
            *map(like, (shift.weight, shift.bias, operands.key_bias, operands.offset)),
        )

    def add_tile(self, operands: Operands, tile: Tile, grad_output: Tensor) -> None:
        """Add one tile's share: softmax and logits are computed anew."""
        query, shift = operands.scaled_query(tile), operands.shift
        weights = operands.weights(tile, query)
        grad_output = tile.of(grad_output).to(operands.dtype)
        grad_weights = shift.contract(grad_output, tile.taps(operands.value))
        grad_logits = weights * (grad_weights - (weights * grad_weights).sum(-1, keepdim=True))

        self.add_contract(operands.value, self.value, shift, tile, grad_output, weights)
        grad_query = self.add_contract(operands.key, self.key, shift, tile, query, grad_logits)
        if operands.key_bias is not None and self.key_bias is not None:
            grad_query = grad_query + (grad_logits * operands.key_bias).sum(-1, keepdim=True)
            self.key_bias += (query.sum(-1, keepdim=True) * grad_logits).sum((0, 1, 2))
        if self.offset is not None:
            part = tile.of_offset(self.offset)
            part += grad_logits.sum(0).sum_to_size(part.shape)
        tile.of(self.query).copy_(grad_query * operands.scale)

    def add_contract(
        self, padded: Tensor, grad_padded: Tensor, shift: Shift, tile: Tile, x: Tensor, y: Tensor
    ) -> Tensor:
        """Gradients of ``<y, shift.contract(x, taps)>``: adds those of map and shift, returns that of x.

        The output is the transpose of such a contraction, ``<g, spread(A, v)> = <A, contract(g, v)>``,
        so values (x = g, y = A) and keys (x = q, y = the logits' gradient) are one case.
        """
        x_rows, y_rows = x.flatten(0, -2), y.flatten(0, -2)
        grad_x = torch.zeros_like(x) if shift.bias is None else y @ shift.bias.T
        if self.bias is not None:
            self.bias.addmm_(x_rows.T, y_rows)
        for tap, map_seen in enumerate(tile.taps(padded)):
            factor = shift.factor(y, tap)
            grad_x.addcmul_(factor, map_seen)
            if self.weight is not None:
                self.weight[tap].addmm_((x * map_seen).flatten(0, -2).T, y_rows)
            tile.add(grad_padded, tap, factor * x)
        return grad_x


class TiledAttention(torch.autograd.Function):
    """Tile by tile; the backward pass recomputes and keeps nothing of the size of T maps."""

    @staticmethod
    def forward(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        shift_weight: Tensor | None,
        shift_bias: Tensor | None,
        key_bias: Tensor | None,
        offset: Tensor | None,
        window: Window,
        scale: float,
    ) -> Tensor:
        """The output, ``(B, H, W, G, D)``."""
        call = Call(query, key, value, window, scale, shift_weight, shift_bias, key_bias)
        operands = Operands.of(call, offset)
        output = value.new_empty(value.shape)
        for tile in tiles(call):
            tile.of(output).copy_(operands.attend(tile))
        return output

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the inputs."""
        *tensors, ctx.window, ctx.scale = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of every tensor argument; differentiable again where a graph is asked for."""
        *tensors, offset = ctx.saved_tensors
        query, key, value, *parameters = tensors
        call = Call(query, key, value, ctx.window, ctx.scale, *parameters)
        needed = ctx.needs_input_grad[:7]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            inputs = [x for x, wanted in zip((*tensors, offset), needed, strict=True) if wanted]
            again = torch.autograd.grad(attend_whole(call, offset), inputs, grad_outputs, create_graph=True)
            found = iter(again)
            return (*(next(found) if wanted else None for wanted in needed), None, None)
        operands = Operands.of(call, offset)
        total = Gradients.zeros(operands)
        for tile in tiles(call):
            total.add_tile(operands, tile, grad_outputs[0])
        height, width = call.map_size
        grads = (
            total.query,
            call.window.crop(total.key, height, width),
            call.window.crop(total.value, height, width),
            None if total.weight is None else total.weight.permute(1, 2, 0),
            total.bias,
            total.key_bias,
            total.offset,
        )
        cast = (
            grad.to(x.dtype) if wanted and grad is not None else None
            for grad, x, wanted in zip(grads, (*tensors, offset), needed, strict=True)
        )
        return (*cast, None, None)


def attend(call: Call) -> Tensor:
    """Slide attention as matrix products."""
    offset = call.logit_offset()
    if torch.compiler.is_exporting():
        return attend_whole(call, offset)
    return TiledAttention.apply(
        call.query,
        call.key,
        call.value,
        call.shift_weight,
        call.shift_bias,
        call.key_bias,
        offset,
        call.window,
        call.scale,
    )
