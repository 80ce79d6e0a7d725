# SPDX-License-Identifier: Apache-2.0
"""Layers that map (B, H, W, C) to (B, H, W, C)."""

from slideformer.layers.deformed_shift import DeformedShift
from slideformer.layers.mlp import Mlp
from slideformer.layers.patch import PatchEmbed, PatchMerging
from slideformer.layers.slide_attention import SlideAttention
from slideformer.layers.window_attention import WindowAttention

__all__ = ["DeformedShift", "Mlp", "PatchEmbed", "PatchMerging", "SlideAttention", "WindowAttention"]
