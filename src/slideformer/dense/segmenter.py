# SPDX-License-Identifier: Apache-2.0
"""A class for every pixel: segmenters by name, over any backbone."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.misc import Conv2dNormActivation

from slideformer.dense.features import Features, OverBackbone
from slideformer.dense.segmentation_heads import SemanticFpn, UperNet
from slideformer.errors import UserError, check_range
from slideformer.models.initialise import init_convolution

HEADS: dict[str, type[SemanticFpn] | type[UperNet]] = {"semantic_fpn": SemanticFpn, "upernet": UperNet}
# Channels of the auxiliary head, of the heads that the paper trains with one.
AUXILIARY: dict[str, int] = {"upernet": 256}
# Of four maps, the one that the auxiliary head looks at.
AUXILIARY_MAP = 2


class Segmenter(OverBackbone, nn.Module):
    """A class for every pixel of an image of any size.

    Args:
        features: the backbone's maps.
        head: maps to one map of the finest stride, with ``out_channels``.
        num_classes: classes.
        auxiliary_channels: of a small head on the third map, in training only; 0 for none.
        dropout: of whole channels before a classifier, a probability.

    Shape: ``(B, 3, height, width) -> (B, num_classes, height, width)``, pixels in [0, 1].
    """

    def __init__(
        self,
        features: Features,
        head: nn.Module,
        num_classes: int,
        *,
        auxiliary_channels: int = 0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.features = features
        self.head = head.apply(init_convolution)
        self.classifier = classifier(int(cast("Any", head).out_channels), num_classes, dropout)
        self.auxiliary: nn.Module | None = None
        if auxiliary_channels:
            third = Conv2dNormActivation(features.channels[AUXILIARY_MAP], auxiliary_channels)
            self.auxiliary = nn.Sequential(
                third.apply(init_convolution), classifier(auxiliary_channels, num_classes, dropout)
            )
        self.num_classes = num_classes

    def forward(self, image: Tensor) -> Tensor:
        """Logits: ``(B, 3, height, width) -> (B, num_classes, height, width)``."""
        return self.as_large(self.classifier(self.head(self.maps(image))), image)

    def forward_train(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits of the head and of the auxiliary head, where there is one, both of the image's size."""
        maps = self.maps(image)
        logits = self.as_large(self.classifier(self.head(maps)), image)
        if self.auxiliary is None:
            return logits, None
        return logits, self.as_large(self.auxiliary(maps[AUXILIARY_MAP]), image)

    def maps(self, image: Tensor) -> list[Tensor]:
        """The backbone's maps of the image, padded below and on the right until all strides fit.

        What is padded is the mean colour, which the normalisation makes 0.
        """
        stride, mean = self.features.strides[-1], self.features.mean
        height, width = image.shape[-2:]
        padded = F.pad(image - mean, (0, -width % stride, 0, -height % stride)) + mean
        return self.features(padded)

    def as_large(self, logits: Tensor, image: Tensor) -> Tensor:
        """Logits of the finest stride, or a coarser, enlarged to the image's pixels."""
        height, width = image.shape[-2:]
        stride = self.features.strides[-1]
        # The size that the padded image had, from the image's: an exporter keeps it open.
        size = height + -height % stride, width + -width % stride
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)[..., :height, :width]


def classifier(channels: int, num_classes: int, dropout: float) -> nn.Sequential:
    """The last layer, which starts near even odds, behind its dropout."""
    convolution = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(convolution.weight, std=0.01)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return nn.Sequential(nn.Dropout2d(dropout), convolution)


def create_segmenter(name: str, backbone: str, num_classes: int, **arguments: Any) -> Segmenter:
    """A segmenter with fresh weights.

    Args:
        name: of the head, one of `HEADS`.
        backbone: timm's name of the backbone, ours or another's.
        num_classes: classes.
        arguments: plain values: of `Features`, such as ``frozen_stages``; of the head, such as ``channels``;
            ``auxiliary_channels`` and ``dropout`` of `Segmenter`.

    Raises:
        UserError: there is no such head or backbone, or an argument is unknown or out of its range.
    """
    if name not in HEADS:
        near = difflib.get_close_matches(name, HEADS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "choose one"
        raise UserError(f"a segmenter's head must be one of {', '.join(HEADS)}, got {name!r}; {hint}")
    check_range("num_classes", num_classes, 2)
    known = {part: keywords(part) for part in (Features, HEADS[name], Segmenter)}
    foreign = sorted(set(arguments).difference(*known.values()))
    if foreign:
        takes = ", ".join(sorted({word for words in known.values() for word in words}))
        raise UserError(
            f"{name} must be given arguments that it takes, got {', '.join(foreign)}; it takes {takes}"
        )
    for option in ("channels", "head_channels"):
        check_range(option, arguments.get(option), 1)
    check_range("auxiliary_channels", arguments.get("auxiliary_channels"), 0)
    check_range("dropout", arguments.get("dropout"), 0, 0.999)
    complete = {"auxiliary_channels": AUXILIARY.get(name, 0), **arguments}
    of_features, of_head, own = (chosen(complete, words) for words in known.values())
    features = Features(backbone, **of_features)
    head = HEADS[name](features.channels, **of_head)
    return Segmenter(features, head, num_classes, **own)


def keywords(part: type[nn.Module]) -> frozenset[str]:
    """Names of the keyword-only arguments of a part."""
    parameters = inspect.signature(part).parameters.values()
    return frozenset(entry.name for entry in parameters if entry.kind is entry.KEYWORD_ONLY)


def chosen(arguments: Mapping[str, Any], words: frozenset[str]) -> dict[str, Any]:
    """The arguments of these names."""
    return {name: value for name, value in arguments.items() if name in words}
