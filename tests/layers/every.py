# SPDX-License-Identifier: Apache-2.0
"""One of each layer, for tests of all."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from slideformer import layers

# One of each layer, on maps of 16 channels or images of 3.
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "ConvMerging": lambda: layers.ConvMerging(16, 16, kernel_size=3),
    "ConvStem": lambda: layers.ConvStem(3, 16),
    "CrossWindowAttention": lambda: layers.CrossWindowAttention(16, 2, 3),
    "DeformableAttention": lambda: layers.DeformableAttention(16, 4, 2),
    "DeformedShift": lambda: layers.DeformedShift(8, 3),
    "DepthwiseMlp": lambda: layers.DepthwiseMlp(16, 32),
    "Mlp": lambda: layers.Mlp(16, 32),
    "NeighborhoodAttention": lambda: layers.NeighborhoodAttention(16, 2, 3),
    "PatchEmbed": lambda: layers.PatchEmbed(3, 16, 4),
    "PatchMerging": lambda: layers.PatchMerging(16, 32),
    "PoolingAttention": lambda: layers.PoolingAttention(16, 2, query_stride=2),
    "PositionEmbedding": lambda: layers.PositionEmbedding(16, (7, 5)),
    "SlideAttention": lambda: layers.SlideAttention(16, 2),
    "SpatialReductionAttention": lambda: layers.SpatialReductionAttention(16, 2, 2),
    "WindowAttention": lambda: layers.WindowAttention(16, 2, 4, shift=True),
}
INPUTS: dict[str, tuple[Tensor, ...]] = {
    "ConvStem": (torch.randn(2, 3, 40, 36),),
    "DeformedShift": (),
    "PatchEmbed": (torch.randn(2, 3, 40, 36),),
}
