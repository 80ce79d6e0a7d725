# SPDX-License-Identifier: Apache-2.0
"""One checked call of the operator, which every backend receives, and the list of its tensor arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from slideformer.ops.window import Window


@dataclass(frozen=True)
class Call:
    """The arguments of `slide_attention` after they were checked and completed.

    A new tensor argument is a new field before ``named``: its schema, its place in the flat arguments of the
    fused operators and its derivative follow from `TENSORS`.

    Shapes: query, key ``(B, *map, G, D)``, value ``(B, *map, G, D')``, key_mask ``(B, *map)``, bool,
    shift_weight ``(D, T, T)``, shift_bias ``(D, T)``, key_bias ``(G, T)``, logit_bias ``(G, T)`` or, an entry
    an axis, ``(G, 2K - 1, ...)``. What key and value hold where the mask is false does not matter
    (`existing`). ``named`` says whether the backend was chosen by name: then it hands nothing over to another
    form.

    A half of the operator is a call, too, in which one map has no channels (`no_channels`): logits have no
    value, and the sum of values has no key and, for query, the weights ``(B, *map, G, T)``.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    window: Window
    scale: float
    key_mask: Tensor | None = None
    shift_weight: Tensor | None = None
    shift_bias: Tensor | None = None
    key_bias: Tensor | None = None
    logit_bias: Tensor | None = None
    named: bool = False

    @classmethod
    def of(cls, tensors: Sequence[Any], window: Window, scale: float, *, named: bool = False) -> Call:
        """The call of tensors in the order of `TENSORS`."""
        query, key, value, *others = tensors
        return cls(query, key, value, window, scale, *others, named=named)  # type: ignore[misc]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which logits, softmax and sums are computed: float32 at least."""
        return torch.promote_types(self.query.dtype, torch.float32)

    @property
    def map_size(self) -> tuple[int, ...]:
        """Positions of the map along each axis."""
        return tuple(self.query.shape[1:-2])

    @property
    def deformed(self) -> bool:
        """Whether neighbours are mixed by a learned shift."""
        return self.shift_weight is not None

    @property
    def excludes(self) -> bool:
        """Whether the mask leaves taps out; among zero vectors that take part, it makes more of them."""
        return self.key_mask is not None and not self.window.zeros

    def existing(self) -> Call:
        """The same call with zeros where keys and values do not exist, whatever they hold, NaN among it.

        Where zero vectors take part, that is all that there is to the mask.
        """
        if self.key_mask is None:
            return self
        mask = self.key_mask[..., None, None]
        key, value = (x.masked_fill(~mask, 0.0) for x in (self.key, self.value))
        return replace(self, key=key, value=value, key_mask=self.key_mask if self.excludes else None)

    def tensors(self) -> tuple[Tensor | None, ...]:
        """Every tensor argument, in the order of `TENSORS`."""
        return tuple([getattr(self, name) for name in TENSORS])

    def tap_offset(self) -> Tensor | None:
        """The part of the logits that does not depend on the query; broadcasts to ``(B, *map, G, T)``.

        Minus infinity where a tap is left out.
        """
        like = torch.empty(0, dtype=self.dtype, device=self.query.device)
        offset = self.window.logit_offset(self.map_size, self.logit_bias, like)
        offset = None if offset is None else offset[None]
        if not self.excludes:
            return offset
        assert self.key_mask is not None
        offset = torch.zeros((), dtype=like.dtype, device=like.device) if offset is None else offset
        return torch.where(self.window.masked(self.key_mask), -torch.inf, offset)

    def finished(self, products: Tensor) -> Tensor:
        """Logits of products of queries and keys, ``(B, *map, G, T)``; constants where a tap is left out."""
        offset = self.tap_offset()
        if offset is None:
            return products
        return torch.where(offset == -torch.inf, offset, products + offset)

    def softmax(self, logits: Tensor, dim: int = -1) -> Tensor:
        """Softmax of `finished` logits over the taps; zeros where a query sees nothing."""
        # Without a mask that leaves taps out, every query sees itself.
        return softmax_or_zeros(logits, dim) if self.excludes else logits.softmax(dim)

    def upcast(self) -> Call:
        """The same call with every tensor in the dtype of the computation."""
        given = zip(TENSORS, self.tensors(), strict=True)
        tensors: dict[str, Any] = {
            name: x.to(self.dtype) for name, x in given if x is not None and name != MASK
        }
        return replace(self, **tensors)


def softmax_or_zeros(logits: Tensor, dim: int) -> Tensor:
    """Softmax, and zeros where every logit is minus infinity."""
    seen = (logits != -torch.inf).any(dim, keepdim=True)
    return torch.where(seen, torch.where(seen, logits, 0.0).softmax(dim), 0.0)


def no_channels(like: Tensor) -> Tensor:
    """A map that is not there: ``(B, *map, G, 0)``, which nothing depends on."""
    return like.detach()[..., :0]


# Read from the annotations of the fields once, here: the maps and the mask, which have a batch, then the
# parameters, which have none and, as the mask, may be absent.
MASK = "key_mask"
MAPS = tuple(field.name for field in fields(Call) if field.type == "Tensor")
PARAMETERS = tuple(
    field.name for field in fields(Call) if field.type == "Tensor | None" and field.name != MASK
)
TENSORS = (*MAPS, MASK, *PARAMETERS)
