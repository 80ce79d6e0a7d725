# SPDX-License-Identifier: Apache-2.0
"""The layout of maps that convolutions take."""

from __future__ import annotations

from torch import Tensor

from slideformer.layers.open_size import open_size


def channels_first(x: Tensor) -> Tensor:
    """Put channels before rows and columns: ``(B, H, W, C) -> (B, C, H, W)``."""
    x = x.permute(0, 3, 1, 2)
    # A copy where a size is open: of a view, PyTorch asks whether its batch is one image, to know whether
    # channels are last in memory, and the program would keep the answer for its example.
    return x.contiguous() if open_size(*x.shape) else x
