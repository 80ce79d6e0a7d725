# SPDX-License-Identifier: Apache-2.0
"""The MLP with a depthwise convolution."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.layers.channels_first import channels_first
from slideformer.layers.linear import Linear, in_pieces


class DepthwiseMlp(nn.Module):
    """An MLP with a 3 x 3 depthwise convolution before its GELU (PVTv2: Wang et al., 2022).

    The zeros that pad the convolution encode where a position is; no position embedding is needed.

    Args:
        dim: channels C in and out.
        hidden_dim: channels in between.
        residual: whether the convolution is added to its input, as in DAT++ (Xia et al., 2023).
        drop: dropout after the activation and after the second linear map, a probability.

    Shape: ``(B, H, W, C) -> (B, H, W, C)``, any ``H`` and ``W``.

    Raises:
        ValueError: a size is less than 1.
    """

    def __init__(self, dim: int, hidden_dim: int, *, residual: bool = False, drop: float = 0.0) -> None:
        super().__init__()
        if dim < 1 or hidden_dim < 1:
            raise ValueError(f"dim and hidden_dim must be at least 1, got {dim} and {hidden_dim}")
        self.residual = residual
        self.fc1 = Linear(dim, hidden_dim)
        self.depthwise = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.fc2 = Linear(hidden_dim, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Transform a map: ``(B, H, W, C) -> (B, H, W, C)``."""
        return in_pieces(self.transform, x, self.fc1.out_features)

    def transform(self, x: Tensor) -> Tensor:
        """The maps and the convolution: ``(B, H, W, C) -> (B, H, W, C)``."""
        x = self.fc1(x)
        y = self.depthwise(channels_first(x)).permute(0, 2, 3, 1)
        y = x + y if self.residual else y
        return self.drop(self.fc2(self.drop(F.gelu(y))))
