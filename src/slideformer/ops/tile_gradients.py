# SPDX-License-Identifier: Apache-2.0
"""The gradients of one tile of positions, by the same sums as `tiles`, and their totals over tiles."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slideformer.ops.tiles import Operands, Shift, Tile, rows


@dataclass
class Gradients:
    """Sums of the gradients over tiles, in the dtype of the computation."""

    key: Tensor  # padded
    value: Tensor  # padded
    weight: Tensor | None  # (T, T, D) [input tap, output tap, channel]
    bias: Tensor | None  # (T, D)
    key_bias: Tensor | None
    offset: Tensor | None  # (T, b, *map, G), a view of the sum for the whole batch; None where unwanted

    @classmethod
    def zeros(cls, operands: Operands, earlier: Gradients | None, offset: Tensor | None) -> Gradients:
        """Start at zero for these maps; the parameters' sums continue those of earlier maps.

        Args:
            operands: of these maps.
            earlier: sums of earlier maps, where there are some.
            offset: where the gradients of these maps' logit offset, ``(b, *map, G, T)``, are summed, if any.
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
        query = operands.scaled_query(tile)
        weights = operands.softmax(operands.logits(tile, query), 0)
        grad_weights = self.add_values(operands, tile, weights, grad_output)
        grad_logits = weights * (grad_weights - (weights * grad_weights).sum(0))
        return self.add_logits(operands, tile, query, grad_logits)

    def add_tile_of_logits(self, operands: Operands, tile: Tile, grad_logits: Tensor) -> Tensor:
        """The same for a tile of logits; those of taps that are left out are constants."""
        grad_logits = grad_logits[:, tile.rows].to(operands.dtype).movedim(-1, 0).contiguous()
        if operands.offset is not None:
            grad_logits = grad_logits.masked_fill(tile.of_offset(operands.offset) == -torch.inf, 0.0)
        return self.add_logits(operands, tile, operands.scaled_query(tile), grad_logits)

    def add_tile_of_values(self, operands: Operands, tile: Tile, grad_output: Tensor) -> Tensor:
        """The same for a tile of sums of values; its queries are the weights."""
        return self.add_values(operands, tile, operands.weights(tile), grad_output).movedim(0, -1)

    def add_values(self, operands: Operands, tile: Tile, weights: Tensor, grad_output: Tensor) -> Tensor:
        """Add the share of a tile's sums of values and return the gradient of its weights."""
        grad_output = grad_output[:, tile.rows].to(operands.dtype)
        self.add_contract(operands.value, self.value, operands.shift, tile, grad_output, weights)
        return operands.shift.contract(grad_output, tile.taps(operands.value))

    def add_logits(self, operands: Operands, tile: Tile, query: Tensor, grad_logits: Tensor) -> Tensor:
        """Add the share of a tile's logits and return the gradient of its queries."""
        grad_query = self.add_contract(operands.key, self.key, operands.shift, tile, query, grad_logits)
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
