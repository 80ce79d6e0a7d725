# SPDX-License-Identifier: Apache-2.0
"""Local attention for vision, and the Slide-Transformer models built on it."""

from slideformer.version import __version__

__all__ = ["__version__"]
