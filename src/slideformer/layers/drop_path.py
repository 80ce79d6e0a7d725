# SPDX-License-Identifier: Apache-2.0
"""Stochastic depth: residual branches that an image may skip in training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from slideformer.layers.linear import runs_eagerly_on_cpu
from slideformer.ops.derivatives import in_transform


class DropPath(nn.Module):
    """Add a branch to a shortcut, except for images that skip the branch (Huang et al., 2016).

    In training every image skips by itself, and what the branch gives the others is divided by their expected
    share. In eager mode on a CPU the branch is not computed for an image that skips it. The images are drawn
    first, each with the same probability.

    Args:
        drop_prob: probability that an image skips the branch in training.

    Shape: ``(B, ...), (B, ...) -> (B, ...)``; the branch treats every image by itself.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, shortcut: Tensor, branch: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Compute ``shortcut + branch(x)``, of each image with or without the branch."""
        if self.drop_prob == 0 or not self.training:
            return shortcut + branch(x)
        share = 1 - self.drop_prob
        factor = 1 / share if share else 1.0
        kept = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(share)
        if in_transform() or not runs_eagerly_on_cpu(x):
            return shortcut + branch(x) * (kept * factor)
        rows = kept.flatten().nonzero().flatten()
        if len(rows) == len(x):
            return torch.add(shortcut, branch(x), alpha=factor)
        # With no image left, too: so every parameter has a gradient, of zeros.
        y = branch(x.index_select(0, rows))
        dtype = torch.promote_types(shortcut.dtype, y.dtype)
        return shortcut.to(dtype).index_add(0, rows, y.to(dtype), alpha=factor)

    def extra_repr(self) -> str:
        """Options, for ``print``."""
        return f"drop_prob={self.drop_prob:.3g}"
