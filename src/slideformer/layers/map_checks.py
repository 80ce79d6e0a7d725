# SPDX-License-Identifier: Apache-2.0
"""Checks that all layers on maps share: the number of heads, and the shape of a map."""

from __future__ import annotations

from torch import Tensor


def check_heads(dim: int, num_heads: int) -> None:
    """Check that channels can be split into heads."""
    if num_heads < 1 or dim < 1 or dim % num_heads:
        raise ValueError(f"dim must be a multiple of num_heads, got dim={dim} and num_heads={num_heads}")


def check_map(x: Tensor, dim: int) -> None:
    """Check that a tensor is a map with so many channels."""
    if x.ndim != 4 or x.shape[-1] != dim:
        raise ValueError(f"x must be a map (B, H, W, C) with C = {dim}, got {tuple(x.shape)}")
