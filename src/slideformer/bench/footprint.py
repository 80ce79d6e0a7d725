# SPDX-License-Identifier: Apache-2.0
"""Where a query looks, measured: the derivative of what it gets with respect to every position."""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Derivatives below this part of the largest are none: a window's mask leaves e^-100 of what it hides.
NONE = 1e-9
# Random numbers a side and channel; between them the map changes evenly.
ANCHORS = 3


def footprint(layer: nn.Module, dim: int, size: int, query: tuple[int, int]) -> Tensor:
    """How much each position of a map changes what one query gets: ``(H, W)``.

    That is |d (output of the query) / d (position)|, summed over the position's channels, in float64. The
    output's channels are weighed by random numbers, so that they do not cancel out. The map is random and
    smooth, as maps of images are: on noise, where a deformable layer's points lie would matter more than
    what lies there.

    Args:
        layer: ``(B, H, W, C) -> (B, H, W, C)``; stays as it is.
        dim: channels C.
        size: side of the map.
        query: its row and column.
    """
    generator = torch.Generator().manual_seed(0)
    layer = deepcopy(layer).to("cpu", torch.float64).eval()
    x = torch.randn(1, dim, ANCHORS, ANCHORS, generator=generator, dtype=torch.float64)
    x = F.interpolate(x, (size, size), mode="bilinear", align_corners=True).permute(0, 2, 3, 1)
    x.requires_grad_()
    weights = torch.randn(dim, generator=generator, dtype=torch.float64)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(layer(x)[0, query[0], query[1]] @ weights, x)
    return gradient[0].abs().sum(-1)


def seen(footprint: Tensor) -> Tensor:
    """Positions that change what the query gets, as True: ``(H, W)``."""
    return footprint > NONE * footprint.max()


def reach(footprint: Tensor, query: tuple[int, int]) -> int:
    """The furthest row or column that the query sees, counted from it in positions."""
    places = seen(footprint).nonzero() - torch.tensor(query)
    return int(places.abs().max())
