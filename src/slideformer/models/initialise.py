# SPDX-License-Identifier: Apache-2.0
"""Initialisation of weights."""

from __future__ import annotations

import math

from torch import nn


def init_linear(module: nn.Module) -> None:
    """Initialise a linear layer as Swin does; other layers keep their own."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def init_convolution(module: nn.Module) -> None:
    """Initialise a convolution as PVTv2 does, by its fan-out; other layers keep their own."""
    if isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
