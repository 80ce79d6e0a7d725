# SPDX-License-Identifier: Apache-2.0
"""A backbone and the feature pyramid on it, as torchvision's detectors take them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from slideformer.dense.features import Features
from slideformer.models.finite import check_finite


class FeaturePyramid(nn.Module):
    """Maps of one number of channels, from fine to coarse, by torchvision's feature pyramid network.

    The names of the maps are "0", "1" and so on, and then what ``extra`` calls its own. They have the
    image's dtype under autocast, too: anchors are made in the dtype of the maps, and the place of a box
    needs more digits than a half-precision number has.

    Args:
        features: the backbone.
        channels: of every map.
        first: the finest of the backbone's maps that is used.
        extra: makes the maps that are coarser than the backbone's.

    Attributes:
        out_channels: channels of every map, by the name that torchvision looks for.
        strides: pixels a side that one position of each of the backbone's maps stands for.

    Shape: ``(B, 3, height, width) -> {name: (B, channels, H, W), ...}``, pixels already normalised.
    """

    def __init__(self, features: Features, channels: int, *, first: int, extra: ExtraFPNBlock) -> None:
        super().__init__()
        self.features = features
        # A weight that no loss depends on would stop a training over several processes.
        for unused in range(first):
            features.norms[unused] = nn.Identity()
        self.first = first
        self.strides = features.strides[first:]
        self.out_channels = channels
        self.fpn = FeaturePyramidNetwork(features.channels[first:], channels, extra_blocks=extra)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """All maps by name: ``(B, 3, height, width) -> {name: (B, channels, H, W), ...}``."""
        maps = self.features.of_normalised(image)[self.first :]
        pyramid = self.fpn({str(level): x for level, x in enumerate(maps)})
        return {name: x.to(image.dtype) for name, x in pyramid.items()}


def answer_in_own_dtype(module: nn.Module) -> nn.Module:
    """Have a module answer in the dtype of its weights where autocast would make it less.

    Logits, and distances from which boxes are decoded, need the digits. In evaluation they are checked to be
    finite: what follows them drops boxes that are not, as if nothing had been found.

    Args:
        module: answers with a tensor, or several in a tuple, list or dictionary.
    """
    module.register_forward_hook(to_own_dtype)
    module.register_forward_hook(refuse_not_finite)
    return module


def refuse_not_finite(module: nn.Module, given: Any, answer: Any) -> None:
    """Refuse an answer in evaluation that is not finite."""
    if not module.training:
        check_finite(answer)


def to_own_dtype(module: nn.Module, given: Any, answer: Any) -> Any:
    """The answer, all its tensors in the dtype of the module's weights."""
    if isinstance(answer, Tensor):
        return answer.to(next(module.parameters()).dtype)
    if isinstance(answer, dict):
        return {name: to_own_dtype(module, given, x) for name, x in answer.items()}
    return type(answer)(to_own_dtype(module, given, x) for x in answer)
