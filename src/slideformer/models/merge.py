# SPDX-License-Identifier: Apache-2.0
"""Merging of every learned shift of a model into its fixed one."""

from __future__ import annotations

from timm.utils.model import reparameterize_model
from torch import nn

from slideformer.layers.deformed_shift import MergedShift


def reparameterize(model: nn.Module) -> nn.Module:
    """Copy a model with every learned shift merged (paper, section 4.3): same function, one kernel.

    Raises:
        RuntimeError: the model is in training mode.
    """
    return reparameterize_model(model)


def is_merged(model: nn.Module) -> bool:
    """Whether a shift of the model was merged, so that its weights have another meaning."""
    return any(isinstance(module, MergedShift) for module in model.modules())
