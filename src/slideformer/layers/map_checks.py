# SPDX-License-Identifier: Apache-2.0
"""Checks that layers on maps share: the number of heads, the shape of a map, words."""

from __future__ import annotations

from torch import Tensor

# Shapes of maps by their number of axes.
SHAPES = {1: "(B, L, C)", 2: "(B, H, W, C)", 3: "(B, Z, H, W, C)"}


def check_heads(dim: int, num_heads: int) -> None:
    """Check that channels can be split into heads."""
    if num_heads < 1 or dim < 1 or dim % num_heads:
        raise ValueError(f"dim must be a multiple of num_heads, got dim={dim} and num_heads={num_heads}")


def check_choice(name: str, given: str, choices: tuple[str, ...]) -> None:
    """Check that an argument is one of some words."""
    if given not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {given!r}; correct it")


def check_map(x: Tensor, dim: int, axes: int = 2, advice: str = "") -> None:
    """Check that a tensor is a map of so many axes and channels."""
    if x.ndim != axes + 2 or x.shape[-1] != dim:
        raise ValueError(f"x must be a map {SHAPES[axes]} with C = {dim}, got {tuple(x.shape)}{advice}")


def check_window_map(x: Tensor, dim: int, axes: int) -> None:
    """Check that a tensor is a map of as many axes as the layer's window has."""
    found, advice = x.ndim - 2, ""
    if found != axes and found in SHAPES:
        entries = "1 entry" if found == 1 else f"{found} entries"
        advice = f"; for maps {SHAPES[found]} give the layer a kernel_size of {entries}, as {(3,) * found}"
    check_map(x, dim, axes, advice)
