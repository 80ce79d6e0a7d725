# SPDX-License-Identifier: Apache-2.0
"""Attention patterns for vision: the keys of a query, a model that attends in this way, and a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from slideformer.bench.authors import UnfoldAttention
from slideformer.layers import (
    CrossWindowAttention,
    DeformableAttention,
    NeighborhoodAttention,
    PoolingAttention,
    SlideAttention,
    SpatialReductionAttention,
    WindowAttention,
)


@dataclass(frozen=True)
class Stage:
    """The authors' options in the stage whose map has this side for an image of 224 pixels.

    Attributes:
        side: of the map, in positions; larger maps are of larger images, up to the next stage.
        reduction: positions a side that one key of PVT replaces.
        pooling: the same of MViTv2.
        points: the same of DAT++, for one point.
        offset_kernel: side of the convolution that moves the points of DAT++.
        stripe: width of a stripe of CSwin.
    """

    side: int
    reduction: int
    pooling: int
    points: int
    offset_kernel: int
    stripe: int


STAGES = (
    Stage(56, reduction=8, pooling=4, points=8, offset_kernel=9, stripe=1),
    Stage(28, reduction=4, pooling=2, points=4, offset_kernel=7, stripe=2),
    Stage(14, reduction=2, pooling=1, points=2, offset_kernel=5, stripe=7),
    Stage(1, reduction=1, pooling=1, points=1, offset_kernel=3, stripe=7),
)
# Sides of windows: of Swin and of NAT, and of local attention as in the paper.
WINDOW, KERNEL = 7, 3

# Channels C, heads G and side of the map.
Build = Callable[[int, int, int], nn.Module]


@dataclass(frozen=True)
class Pattern:
    """One way to choose the keys of a query.

    Attributes:
        name: as the tables show it.
        used_by: a model that attends in this way, the first in a paper.
        keys: the keys of a query, in words.
        build: the layer ``(B, H, W, C) -> (B, H, W, C)``, fresh.
        laid_out: numbers a position that the layer may hold at once, beyond some maps; from what ``build``
            takes.
        rank: the largest of a tensor in the layer's ONNX graph; Core ML takes 5.
        runtimes: where the layer runs for maps of every size; each is tested.
        counted: the layer whose products of matrices are counted instead, where these are written as
            sums elementwise.
        even_heads: whether heads must be even.
    """

    name: str
    used_by: str
    keys: str
    build: Build
    laid_out: Callable[[int, int, int], int]
    rank: int
    runtimes: tuple[str, ...] = ("PyTorch", "torch.export", "ONNX Runtime")
    counted: Build | None = None
    even_heads: bool = False


def stage(size: int) -> Stage:
    """The authors' stage of a map of this side."""
    return next(row for row in STAGES if size >= row.side)


def all_keys(stride: Callable[[Stage], int]) -> Callable[[int, int, int], int]:
    """Logits of a position and its heads, with one key for ``stride`` x ``stride`` positions."""
    return lambda dim, heads, size: heads * (-(-size // stride(stage(size)))) ** 2


def pooling(dim: int, heads: int, size: int) -> nn.Module:
    """MViTv2's attention; it pools keys and values, not queries."""
    return PoolingAttention(dim, heads, key_stride=stage(size).pooling, map_size=size)


def deformable(dim: int, heads: int, size: int) -> nn.Module:
    """DAT++'s attention: groups of two heads, as in its tiny model."""
    row, groups = stage(size), heads // 2 if heads % 2 == 0 else 1
    return DeformableAttention(
        dim, heads, groups, stride=row.points, kernel_size=row.offset_kernel, map_size=size
    )


def im2col(dim: int, heads: int, size: int) -> nn.Module:
    """Local attention by ``F.unfold``."""
    layer = SlideAttention(dim, heads, KERNEL, deform=False)
    # It has no position bias: an unused parameter would be counted.
    layer.register_parameter("key_bias", None)
    return UnfoldAttention(layer)


def slide(dim: int, heads: int, size: int) -> nn.Module:
    """Slide attention, merged, as it is deployed."""
    layer = SlideAttention(dim, heads, KERNEL).eval()
    layer.reparameterize()
    return layer


PATTERNS = (
    Pattern(
        "global",
        "ViT",
        "all, the same for every query",
        lambda dim, heads, size: SpatialReductionAttention(dim, heads, 1),
        all_keys(lambda row: 1),
        rank=4,
    ),
    Pattern(
        "spatial reduction",
        "PVT",
        "a few, the same for every query",
        lambda dim, heads, size: SpatialReductionAttention(dim, heads, stage(size).reduction),
        all_keys(lambda row: row.reduction),
        rank=4,
    ),
    Pattern(
        "pooling",
        "MViTv2",
        "a few, the same for every query",
        pooling,
        all_keys(lambda row: row.pooling),
        rank=5,
    ),
    Pattern(
        "deformable",
        "DAT",
        "a few that the map moves, the same for every query",
        deformable,
        # In addition to the logits, how far each point is from each query, down and across.
        lambda dim, heads, size: 2 * all_keys(lambda row: row.points)(dim, heads, size),
        rank=5,
    ),
    Pattern(
        "shifted window",
        "Swin",
        "those of its window",
        lambda dim, heads, size: WindowAttention(dim, heads, WINDOW, shift=True),
        lambda dim, heads, size: heads * WINDOW**2,
        rank=4,
    ),
    Pattern(
        "cross window",
        "CSwin",
        "those of its stripes",
        lambda dim, heads, size: CrossWindowAttention(dim, heads, stage(size).stripe),
        lambda dim, heads, size: heads * stage(size).stripe * size,
        rank=5,
        even_heads=True,
    ),
    Pattern(
        "neighborhood",
        "NAT",
        "its own",
        lambda dim, heads, size: NeighborhoodAttention(dim, heads, WINDOW),
        lambda dim, heads, size: heads * WINDOW**2,
        rank=5,
    ),
    Pattern(
        "Im2Col local",
        "SASA",
        "its own",
        im2col,
        # Keys and values of every window, and each of them times something.
        lambda dim, heads, size: 4 * dim * KERNEL**2,
        rank=6,
        counted=lambda dim, heads, size: NeighborhoodAttention(dim, heads, KERNEL),
    ),
    Pattern(
        "slide",
        "Slide-Transformer",
        "its own",
        slide,
        lambda dim, heads, size: heads * KERNEL**2,
        rank=5,
    ),
)
