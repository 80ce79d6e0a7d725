# SPDX-License-Identifier: Apache-2.0
"""What timm's optimisers ask of a model, answered for a dense one by the backbone in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from timm.models import group_parameters
from torch import nn

from slideformer.models.dense.features import Features


class OverBackbone:
    """A part of every dense model: without it all weights would decay, and all at one rate."""

    def no_weight_decay(self) -> set[str]:
        """Names of the weights that the backbone does not want to decay."""
        prefix, features = features_in(cast("nn.Module", self))
        ask = getattr(features.model, "no_weight_decay", set)
        return {f"{prefix}.model.{name}" for name in ask()}

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """The number of a weight's layer by its name: the backbone's layers, stem first, then all else.

        Args:
            coarse: whether a layer is a whole stage.
        """
        prefix, features = features_in(cast("nn.Module", self))
        matcher = cast("Any", features.model).group_matcher(coarse=coarse)
        groups = group_parameters(features.model, matcher, reverse=True)
        layers = {f"{prefix}.model.{name}": int(layer) for name, layer in groups.items()}
        above = max(layers.values()) + 1
        return lambda name: layers.get(name, above)


def features_in(model: nn.Module) -> tuple[str, Features]:
    """The backbone of a dense model, and its name there."""
    return next((name, part) for name, part in model.named_modules() if isinstance(part, Features))
