# SPDX-License-Identifier: Apache-2.0
"""Linear maps of feature maps, in the form that a CPU runs fastest."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.ops.exporting import tracing

# From this many positions on, a convolution is faster than a linear layer.
MANY_POSITIONS = 4096
# The C library takes larger blocks from the system each time, and each page costs a fault.
PIECE_BYTES = 2**23


class Linear(nn.Linear):
    """``nn.Linear``; a map with many positions goes through it as a 1 x 1 convolution, on a CPU.

    The same product, but PyTorch's linear layer first fills its result with the bias and reads it again,
    where the convolution adds the bias as it goes.

    Shape: ``(..., C) -> (..., C')``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map every position: ``(..., C) -> (..., C')``."""
        if x.ndim == 4 and forward_alone(x) and x[..., 0].numel() >= MANY_POSITIONS:
            kernel = self.weight[:, :, None, None]
            return F.conv2d(x.permute(0, 3, 1, 2), kernel, self.bias).permute(0, 2, 3, 1)
        return super().forward(x)


def in_pieces(function: Callable[[Tensor], Tensor], x: Tensor, channels: int) -> Tensor:
    """Compute ``function(x)``, part of the first axis at a time where nothing is kept for gradients.

    Args:
        function: treats every entry of the first axis independently.
        x: ``(N, ..., C)``.
        channels: of the widest map that ``function`` lays out.
    """
    if not forward_alone(x):
        return function(x)
    entry = x[0, ..., 0].numel() * channels * x.element_size() if len(x) else 1
    count = max(1, PIECE_BYTES // entry)
    if len(x) <= count:
        return function(x)
    return torch.cat([function(piece) for piece in x.split(count)])


def forward_alone(x: Tensor) -> bool:
    """Whether a map is on a CPU in eager mode, and no gradients are recorded."""
    return not torch.is_grad_enabled() and runs_eagerly_on_cpu(x)


def runs_eagerly_on_cpu(x: Tensor) -> bool:
    """Whether a map is on a CPU in eager mode, and no program is recorded."""
    # To torch.fx, which takes no tensor, a program is recorded.
    recorded = not isinstance(x, Tensor) or torch.compiler.is_compiling() or tracing()
    return not recorded and x.device.type == "cpu"
