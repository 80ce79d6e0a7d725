# SPDX-License-Identifier: Apache-2.0
"""RetinaNet (Lin et al., 2017): classes and boxes from every position of a pyramid, in one stage."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import remove_small_boxes

from slideformer.dense.features import OverBackbone
from slideformer.dense.pyramid import FeaturePyramid, answer_in_own_dtype

# Anchors of one map: three sides, in octaves above the smallest, by three shapes.
OCTAVES = (0.0, 1 / 3, 2 / 3)
ASPECT_RATIOS = (0.5, 1.0, 2.0)


class Retina(OverBackbone, RetinaNet):
    """Torchvision's RetinaNet with classes from 1, as its other detectors count them, and none for nothing.

    Torchvision's own has a score for class 0 that no image ever trains.
    """

    def compute_loss(
        self, targets: list[dict[str, Tensor]], head_outputs: dict[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        """Losses by name, ``targets`` with labels from 1."""
        targets = [{**target, "labels": target["labels"] - 1} for target in targets]
        return super().compute_loss(targets, head_outputs, anchors)

    def postprocess_detections(self, *given: Any) -> list[dict[str, Tensor]]:
        """Detections of each image with labels from 1, but those that its border has cut to nothing."""
        found = []
        for detection in super().postprocess_detections(*given):
            kept = remove_small_boxes(detection["boxes"], min_size=1e-2)
            chosen = {name: x[kept] for name, x in detection.items()}
            found.append({**chosen, "labels": chosen["labels"] + 1})
        return found


def retina_anchors(neck: FeaturePyramid, scale: float) -> AnchorGenerator:
    """Nine anchors a position on the backbone's maps and two coarser ones.

    Args:
        neck: knows the strides.
        scale: side of the smallest anchor of a map, in the map's strides.
    """
    coarsest = neck.strides[-1]
    strides = (*neck.strides, 2 * coarsest, 4 * coarsest)
    sizes = tuple(tuple(int(scale * stride * 2**octave) for octave in OCTAVES) for stride in strides)
    return AnchorGenerator(sizes, (ASPECT_RATIOS,) * len(sizes))


def retina_head(neck: FeaturePyramid, anchors: AnchorGenerator, num_classes: int) -> RetinaNetHead:
    """Build the head that predicts classes and boxes at every position of every map."""
    head = RetinaNetHead(neck.out_channels, anchors.num_anchors_per_location()[0], num_classes)
    answer_in_own_dtype(head)
    return head
