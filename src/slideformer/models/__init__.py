# SPDX-License-Identifier: Apache-2.0
"""Models by name; importing this package registers them with timm."""

from slideformer.models.slide_swin import SlideSwin

__all__ = ["SlideSwin"]
