# SPDX-License-Identifier: Apache-2.0
"""One checked call of the operator: what every backend receives."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from slideformer.ops.window import Window


@dataclass(frozen=True)
class Call:
    """The arguments of `slide_attention` after they were checked and completed.

    Shapes: query, key ``(B, H, W, G, D)``, value ``(B, H, W, G, D')``, shift_weight ``(D, T, T)``,
    shift_bias ``(D, T)``, key_bias ``(G, T)``, logit_bias ``(G, T)`` or ``(G, 2K - 1, 2K - 1)``.
    ``named`` says whether the backend was chosen by name: then it hands nothing over to another form.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    window: Window
    scale: float
    shift_weight: Tensor | None = None
    shift_bias: Tensor | None = None
    key_bias: Tensor | None = None
    logit_bias: Tensor | None = None
    named: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which logits, softmax and sums are computed: float32 at least."""
        return torch.promote_types(self.query.dtype, torch.float32)

    @property
    def map_size(self) -> tuple[int, int]:
        """Rows H and columns W of the map."""
        return self.query.shape[1], self.query.shape[2]

    @property
    def deformed(self) -> bool:
        """Whether neighbours are mixed by a learned shift."""
        return self.shift_weight is not None

    def tensors(self) -> tuple[Tensor | None, ...]:
        """Every tensor argument, in the order of the fields."""
        return (
            self.query,
            self.key,
            self.value,
            self.shift_weight,
            self.shift_bias,
            self.key_bias,
            self.logit_bias,
        )

    def logit_offset(self) -> Tensor | None:
        """What is added to the logits whatever the query; broadcasts to ``(H, W, G, T)``."""
        like = torch.empty(0, dtype=self.dtype, device=self.query.device)
        return self.window.logit_offset(*self.map_size, self.logit_bias, like)

    def upcast(self) -> Call:
        """The same call with every tensor in the dtype of the computation."""
        tensors: dict[str, Any] = {
            field.name: x.to(self.dtype)
            for field in fields(self)
            if isinstance(x := getattr(self, field.name), Tensor)
        }
        return replace(self, **tensors)
