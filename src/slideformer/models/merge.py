# SPDX-License-Identifier: Apache-2.0
"""Merging of every learned shift of a model into its fixed one."""

from __future__ import annotations

from copy import deepcopy

from timm.utils.model import reparameterize_model
from torch import nn

from slideformer.layers import SlideAttention
from slideformer.layers.deformed_shift import MergedShift


def reparameterize(model: nn.Module) -> nn.Module:
    """Copy a model with every learned shift merged (paper, section 4.3): same function, one kernel.

    Args:
        model: any module, a network of your own or a single layer. What timm merges in its own models,
            such as a convolution and its norm, is merged, too.

    Raises:
        RuntimeError: the model is in training mode.
    """
    model = deepcopy(model)
    for module in list(model.modules()):
        if isinstance(module, SlideAttention):
            module.reparameterize()
        # In a class of somebody else, a method of this name may mean something else.
        elif type(module).__module__.startswith("timm."):
            reparameterize_model(module, inplace=True)
    return model


def is_merged(model: nn.Module) -> bool:
    """Whether a shift of the model was merged, so that its weights have another meaning."""
    return any(isinstance(module, MergedShift) for module in model.modules())
