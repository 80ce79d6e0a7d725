# SPDX-License-Identifier: Apache-2.0
"""Layers from ``(B, H, W, C)`` to the same, attention to neighbours also over one or three axes."""

from slideformer.layers.conv_stem import ConvStem
from slideformer.layers.cross_window import CrossWindowAttention
from slideformer.layers.deformable_attention import DeformableAttention
from slideformer.layers.deformed_shift import DeformedShift
from slideformer.layers.depthwise_mlp import DepthwiseMlp
from slideformer.layers.mlp import Mlp
from slideformer.layers.neighborhood import NeighborhoodAttention
from slideformer.layers.patch import ConvMerging, PatchEmbed, PatchMerging
from slideformer.layers.pooling_attention import PoolingAttention
from slideformer.layers.position_embedding import PositionEmbedding
from slideformer.layers.slide_attention import SlideAttention
from slideformer.layers.spatial_reduction import SpatialReductionAttention
from slideformer.layers.window_attention import WindowAttention

__all__ = [
    "ConvMerging",
    "ConvStem",
    "CrossWindowAttention",
    "DeformableAttention",
    "DeformedShift",
    "DepthwiseMlp",
    "Mlp",
    "NeighborhoodAttention",
    "PatchEmbed",
    "PatchMerging",
    "PoolingAttention",
    "PositionEmbedding",
    "SlideAttention",
    "SpatialReductionAttention",
    "WindowAttention",
]
