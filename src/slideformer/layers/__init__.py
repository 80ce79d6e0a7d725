# SPDX-License-Identifier: Apache-2.0
"""Layers that map (B, H, W, C) to (B, H, W, C)."""

from slideformer.layers.deformed_shift import DeformedShift
from slideformer.layers.slide_attention import SlideAttention

__all__ = ["DeformedShift", "SlideAttention"]
