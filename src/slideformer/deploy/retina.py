# SPDX-License-Identifier: Apache-2.0
"""The head of a RetinaNet in a graph: from maps to boxes, scores and labels, overlaps removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image, remove_small_boxes

from slideformer.deploy.anchors import Anchors
from slideformer.deploy.overlaps import nms_by_class
from slideformer.models.finite import check_finite


class RetinaFinder(nn.Module):
    """The objects that a RetinaNet finds in its maps.

    Args:
        detector: of ours, in evaluation mode.

    Shape: maps ``(1, C, H, W)`` to boxes ``(N, 4)``, scores ``(N,)``, descending, and labels ``(N,)`` from 1.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.head: Any = detector.head
        self.coder = detector.box_coder
        self.anchors = Anchors(detector.anchor_generator.cell_anchors)
        self.candidates = detector.topk_candidates
        self.score_threshold = detector.score_thresh
        self.nms_threshold = detector.nms_thresh
        self.detections = detector.detections_per_img

    def forward(self, maps: Sequence[Tensor], padded: Tensor, size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Detect.

        Args:
            maps: of the pyramid, from fine to coarse.
            padded: the image that they were made of.
            size: height and width of the image without its padding.
        """
        levels = [self.best(x, level, padded) for level, x in enumerate(maps)]
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*levels, strict=True))
        boxes = clip_boxes_to_image(boxes, size)
        kept = nms_by_class(boxes, scores, labels, self.nms_threshold)[: self.detections]
        kept = kept[remove_small_boxes(boxes[kept], min_size=1e-2)]
        return boxes[kept], scores[kept], labels[kept] + 1

    def best(self, x: Tensor, level: int, padded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The likeliest boxes of one map.

        Args:
            x: the map ``(1, C, H, W)``.
            level: its number.
            padded: the image that it was made of.

        Returns:
            Boxes ``(K, 4)``, scores ``(K,)`` and labels ``(K,)`` from 0.
        """
        # In the order of the heads' own answers, without their reshaping, which an exporter follows slowly.
        classify, regress = self.head.classification_head, self.head.regression_head
        scores = classify.cls_logits(classify.conv(x))[0].permute(1, 2, 0).flatten().sigmoid()
        deltas = regress.bbox_reg(regress.conv(x))[0].permute(1, 2, 0).reshape(-1, 4)
        check_finite((scores, deltas))
        scores, chosen = scores.topk(torch.sym_min(self.candidates, scores.shape[0]))
        likely = torch.where(scores > self.score_threshold)[0]
        scores, chosen = scores[likely], chosen[likely]
        places = torch.div(chosen, classify.num_classes, rounding_mode="floor")
        boxes = self.coder.decode_single(deltas[places], self.anchors(x, level, padded)[places])
        return boxes, scores, chosen % classify.num_classes
