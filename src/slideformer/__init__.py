# SPDX-License-Identifier: Apache-2.0
"""Local attention for vision, and the Slide-Transformer models built on it."""

from slideformer import models
from slideformer.layers import SlideAttention
from slideformer.ops import (
    backends,
    explain,
    slide_attention,
    slide_attention_values,
    slide_attention_weights,
)
from slideformer.version import __version__

__all__ = [
    "SlideAttention",
    "__version__",
    "backends",
    "explain",
    "models",
    "slide_attention",
    "slide_attention_values",
    "slide_attention_weights",
]
