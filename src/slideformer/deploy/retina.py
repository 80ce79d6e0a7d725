# SPDX-License-Identifier: Apache-2.0
"""RetinaNet as one graph: from an image of any size to boxes, scores and labels, overlaps removed."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.ops import clip_boxes_to_image, nms, remove_small_boxes

from slideformer.dense.retina import Retina
from slideformer.errors import UserError
from slideformer.models.finite import check_finite


class RetinaGraph(nn.Module):
    """The detections of a RetinaNet in one image, computed by ordinary operators only.

    The image is taken in its own size, and the boxes are in its pixels: whoever wants it larger or smaller
    resizes it before. The detector's threshold of scores is not applied, so that whoever calls sets one.

    Args:
        detector: a RetinaNet of ours, in evaluation mode.

    Shape: ``(1, 3, height, width) -> (N, 4), (N,), (N,)``, pixels in [0, 1]; boxes as left, top, right and
    bottom, their scores, in descending order, and labels from 1. N is what the detector gives at most, less
    where the image has no more.

    Raises:
        UserError: the detector is of another kind.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        if not isinstance(detector, Retina):
            kind = "two-stage detector" if isinstance(detector, GeneralizedRCNN) else type(detector).__name__
            raise UserError(
                f"a detector must be a retinanet to be exported, got a {kind}; train one, or run this one in "
                "PyTorch"
            )
        self.backbone: Any = detector.backbone
        self.head: Any = detector.head
        self.coder = detector.box_coder
        self.candidates = detector.topk_candidates
        self.nms_threshold = detector.nms_thresh
        self.detections = detector.detections_per_img
        self.multiple = detector.transform.size_divisible
        self.cell_anchors: list[Tensor] = detector.anchor_generator.cell_anchors
        for level, anchors in enumerate(self.cell_anchors):
            self.register_buffer(f"anchors{level}", anchors, persistent=False)

    def init_non_persistent_buffers(self) -> None:
        """Fill what is not in the state dict, by timm's name, for loaders that build on the meta device."""
        for level, anchors in enumerate(self.cell_anchors):
            self.get_buffer(f"anchors{level}").copy_(anchors)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect: ``(1, 3, height, width) -> (N, 4), (N,), (N,)``."""
        height, width = image.shape[-2:]
        features = self.backbone.features
        normalised = (image - features.mean) / features.std
        padded = F.pad(normalised, (0, -width % self.multiple, 0, -height % self.multiple))
        levels = [
            self.best(x, cast("Tensor", getattr(self, f"anchors{level}")), padded)
            for level, x in enumerate(self.backbone(padded).values())
        ]
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*levels, strict=True))
        boxes = clip_boxes_to_image(boxes, (height, width))
        # Boxes of two classes are shifted so that they never overlap.
        apart = boxes + labels[:, None] * (max(height, width) + 1)
        kept = nms(apart, scores, self.nms_threshold)[: self.detections]
        kept = kept[remove_small_boxes(boxes[kept], min_size=1e-2)]
        return boxes[kept], scores[kept], labels[kept] + 1

    def best(self, x: Tensor, anchors: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The likeliest boxes of one map.

        Args:
            x: the map ``(1, C, H, W)``.
            anchors: boxes around a position ``(A, 4)``.
            image: the padded image.

        Returns:
            Boxes ``(K, 4)``, scores ``(K,)`` and labels ``(K,)`` from 0.
        """
        # In the order of the heads' own answers, without their reshaping, which an exporter follows slowly.
        classify, regress = self.head.classification_head, self.head.regression_head
        scores = classify.cls_logits(classify.conv(x))[0].permute(1, 2, 0).flatten().sigmoid()
        deltas = regress.bbox_reg(regress.conv(x))[0].permute(1, 2, 0).reshape(-1, 4)
        check_finite((scores, deltas))
        scores, chosen = scores.topk(torch.sym_min(self.candidates, scores.shape[0]))
        places = torch.div(chosen, classify.num_classes, rounding_mode="floor")
        boxes = self.coder.decode_single(deltas[places], around(x, anchors, image)[places])
        return boxes, scores, chosen % classify.num_classes


def around(x: Tensor, anchors: Tensor, image: Tensor) -> Tensor:
    """All anchors of a map, in the order of the head's answers: ``(H W A, 4)``.

    Args:
        x: the map ``(1, C, H, W)``.
        anchors: boxes around a position ``(A, 4)``.
        image: what the map was made of; its strides are the image's sides in whole maps, as torchvision has
            them.
    """
    rows, columns = x.shape[-2:]
    height, width = image.shape[-2:]
    top = torch.arange(rows, device=x.device) * (height // rows)
    left = torch.arange(columns, device=x.device) * (width // columns)
    y, x = torch.meshgrid(top, left, indexing="ij")
    shifts = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
    return (shifts + anchors).reshape(-1, 4)
