# SPDX-License-Identifier: Apache-2.0
"""Detectors over any backbone, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from slideformer.dense.detector_options import (
    CascadeOptions,
    DetectorOptions,
    MaskOptions,
    RegionOptions,
    make_options,
)
from slideformer.dense.features import Features
from slideformer.dense.pyramid import FeaturePyramid
from slideformer.dense.regions import Regions, cascade_heads, plain_heads, proposal_network
from slideformer.dense.retina import Retina, retina_anchors, retina_head
from slideformer.errors import UserError, check_range
from slideformer.models.names import pretrained_cfg

# Pixels a side that images are padded to multiples of, at least.
MULTIPLE = 32


class Transform(GeneralizedRCNNTransform):
    """Torchvision's transform, for images of any proportions: none is resized to no pixel."""

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """An image ``(3, height, width)`` at the size at which it is looked at, in evaluation."""
        short, long = sorted(image.shape[-2:])
        if not self.training and short * self.max_size < long:
            size = [max(1, side * self.max_size // long) for side in image.shape[-2:]]
            image = F.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]
        resized: tuple[Tensor, dict[str, Tensor] | None] = super().resize(image, target)
        return resized


@dataclass(frozen=True)
class Head:
    """A kind of detector.

    Attributes:
        options: the type of its options.
        build: makes one of backbone, number of classes, options and the transform of images.
        masks: whether it predicts masks as well as boxes.
    """

    options: type[DetectorOptions]
    build: Callable[[Features, int, Any, GeneralizedRCNNTransform], nn.Module]
    masks: bool = False


def create_detector(head: str, backbone: str, num_classes: int, **arguments: Any) -> nn.Module:
    """A detector as torchvision's are, of a head and a backbone.

    In training it takes images as they are, a list of ``(3, height, width)`` with pixels in [0, 1], each
    of its own size, and targets, a list of dictionaries with ``boxes`` (N, 4) as left, top, right and bottom
    in pixels, ``labels`` (N,) from 1 and, for masks, ``masks`` (N, height, width); it gives a dictionary of
    losses. In evaluation it resizes the images itself and gives for each a dictionary of ``boxes``,
    ``labels``, ``scores`` and ``masks`` (N, 1, height, width) in [0, 1], in the image's own pixels.

    Args:
        head: a name in `HEADS`.
        backbone: timm's name of it, ours or another's.
        num_classes: classes, without a background.
        arguments: of the head's options; see `DetectorOptions` and those that are derived from it.

    Raises:
        UserError: there is no such head or backbone, or an argument is none of the head's or out of range.

    Example:
        >>> detector = create_detector("retinanet", "slide_swin_nano", 3, fpn_channels=16).eval()
        >>> sorted(detector([torch.rand(3, 40, 60)])[0])
        ['boxes', 'labels', 'scores']
    """
    row = find_head(head)
    check_range("num_classes", num_classes, 1)
    options = make_options(row.options, head, arguments)
    facts = pretrained_cfg(backbone)
    features = Features(
        backbone,
        norm=options.norm,
        frozen_stages=options.frozen_stages,
        drop_path_rate=options.drop_path_rate,
        grad_checkpointing=options.grad_checkpointing,
        options=options.options,
    )
    transform = Transform(
        options.min_size,
        options.max_size,
        list(facts["mean"]),
        list(facts["std"]),
        size_divisible=max(MULTIPLE, features.strides[-1]),
        # In training images come as they are to be learned from.
        _skip_resize=True,
    )
    return row.build(features, num_classes, options, transform)


def with_regions(
    heads: Callable[[FeaturePyramid, int, Any], nn.Module],
) -> Callable[[Features, int, Any, GeneralizedRCNNTransform], nn.Module]:
    """The builder of a detector that proposes regions and has these heads on them."""

    def build(
        features: Features, num_classes: int, options: RegionOptions, transform: GeneralizedRCNNTransform
    ) -> nn.Module:
        neck = FeaturePyramid(features, options.fpn_channels, first=0, extra=LastLevelMaxPool())
        scale = 8.0 if options.anchor_scale is None else options.anchor_scale
        proposals = proposal_network(neck, scale, options)
        return Regions(neck, proposals, heads(neck, num_classes, options), transform)

    return build


def retinanet(
    features: Features, num_classes: int, options: DetectorOptions, transform: GeneralizedRCNNTransform
) -> nn.Module:
    """A detector of one stage, on the last three of the backbone's maps and two coarser ones."""
    channels = options.fpn_channels
    extra = LastLevelP6P7(features.channels[-1], channels)
    neck = FeaturePyramid(features, channels, first=1, extra=extra)
    anchors = retina_anchors(neck, 4.0 if options.anchor_scale is None else options.anchor_scale)
    detector = Retina(
        neck,
        num_classes,
        anchor_generator=anchors,
        head=retina_head(neck, anchors, num_classes),
        score_thresh=options.score_threshold,
        nms_thresh=options.nms_threshold,
        detections_per_img=options.detections,
    )
    detector.transform = transform
    return detector


HEADS = {
    "faster_rcnn": Head(RegionOptions, with_regions(plain_heads)),
    "mask_rcnn": Head(MaskOptions, with_regions(plain_heads), masks=True),
    "cascade_mask_rcnn": Head(CascadeOptions, with_regions(cascade_heads), masks=True),
    "retinanet": Head(DetectorOptions, retinanet),
}


def find_head(name: str) -> Head:
    """The row of a kind of detector."""
    if name not in HEADS:
        raise UserError(f"the head must be one of {', '.join(HEADS)}, got {name!r}")
    return HEADS[name]
