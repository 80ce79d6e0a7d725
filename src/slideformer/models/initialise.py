# SPDX-License-Identifier: Apache-2.0
"""How weights start."""

from __future__ import annotations

from torch import nn


def init_linear(module: nn.Module) -> None:
    """Initialise a linear layer as Swin does; other layers keep their own start."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
