# SPDX-License-Identifier: Apache-2.0
"""Models as functions of a state dict: what the authors' classes compute, written down anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

# Name and shape of a parameter.
Shape = tuple[str, tuple[int, ...]]


def affine(name: str, *shape: int) -> Iterator[Shape]:
    """A weight and a bias."""
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


class Functions:
    """Layers by the names of their parameters, which are random."""

    def __init__(self, shapes: Iterable[Shape]) -> None:
        generator = torch.Generator().manual_seed(0)
        self.state = {
            name: torch.randn(shape, generator=generator) * (0.3 if len(shape) == 1 else shape[1] ** -0.5)
            for name, shape in shapes
        }

    def norm(self, x: Tensor, name: str, eps: float = 1e-5) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return F.layer_norm(x, weight.shape, weight, bias, eps)

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def convolution(self, x: Tensor, name: str, **options: int) -> Tensor:
        """Convolution of a map: ``(B, H, W, C) -> (B, H', W', C')``."""
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        return F.conv2d(x.permute(0, 3, 1, 2), weight, bias, **options).permute(0, 2, 3, 1)
