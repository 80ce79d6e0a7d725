# SPDX-License-Identifier: Apache-2.0
"""A learned vector for every position of a map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.layers.map_checks import check_map
from slideformer.layers.open_size import open_size


class PositionEmbedding(nn.Module):
    """Add a learned vector to every position, interpolated for maps of another size than it was made for.

    Interpolation is bilinear, as in the Pyramid Vision Transformer (Wang et al., 2021).

    Args:
        dim: channels C of the map.
        size: rows and columns of the learned map.

    Shape: ``(B, H, W, C) -> (B, H, W, C)``, any ``H`` and ``W`` at every call.

    Raises:
        ValueError: a size is less than 1; on a call, ``x`` is not a map of C channels.
    """

    def __init__(self, dim: int, size: tuple[int, int]) -> None:
        super().__init__()
        if min(dim, *size) < 1:
            raise ValueError(f"dim and size must be at least 1, got {dim} and {size}")
        self.weight = nn.Parameter(torch.empty(1, *size, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the parameters of this layer itself."""
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Add to a map: ``(B, H, W, C) -> (B, H, W, C)``."""
        check_map(x, self.weight.shape[-1])
        return x + self.resized(x)

    def resized(self, x: Tensor) -> Tensor:
        """The embedding for a map of the size of ``x``: ``(1, H, W, C)``."""
        height, width = x.shape[1:3]
        if not open_size(height, width) and (height, width) == self.weight.shape[1:3]:
            return self.weight
        learned = self.weight.permute(0, 3, 1, 2)
        return F.interpolate(learned, size=x.shape[1:3], mode="bilinear").permute(0, 2, 3, 1)

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        _, rows, columns, dim = self.weight.shape
        return f"dim={dim}, size=({rows}, {columns})"
