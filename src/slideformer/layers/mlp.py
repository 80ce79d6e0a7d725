# SPDX-License-Identifier: Apache-2.0
"""The two-layer MLP of a transformer block."""

from __future__ import annotations

from torch import Tensor, nn

from slideformer.layers.linear import Linear, gelu_of_linear, in_pieces


class Mlp(nn.Module):
    """Two linear maps with a GELU in between, applied at every position.

    Args:
        dim: channels C in and out.
        hidden_dim: channels in between.
        drop: dropout after both maps, a probability.

    Shape: ``(..., C) -> (..., C)``.

    Raises:
        ValueError: a size is less than 1.
    """

    def __init__(self, dim: int, hidden_dim: int, *, drop: float = 0.0) -> None:
        super().__init__()
        if dim < 1 or hidden_dim < 1:
            raise ValueError(f"dim and hidden_dim must be at least 1, got {dim} and {hidden_dim}")
        self.fc1 = Linear(dim, hidden_dim)
        self.fc2 = Linear(hidden_dim, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Transform every position: ``(..., C) -> (..., C)``."""
        return in_pieces(self.transform, x.flatten(0, -2), self.fc1.out_features).reshape(x.shape)

    def transform(self, x: Tensor) -> Tensor:
        """The two maps: ``(N, C) -> (N, C)``."""
        return self.drop(self.fc2(self.drop(gelu_of_linear(x, self.fc1))))
