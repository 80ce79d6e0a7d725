# SPDX-License-Identifier: Apache-2.0
"""The heads of Faster, Mask and Cascade R-CNN in a graph: from maps to boxes, scores, labels and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign, clip_boxes_to_image, nms, remove_small_boxes, roi_align

from slideformer.dense.cascade import CascadeHeads, likeliest
from slideformer.deploy.anchors import Anchors
from slideformer.deploy.overlaps import FEW, nms_by_class


class RegionFinder(nn.Module):
    """The objects that a detector of two stages finds in its maps.

    Torchvision's own heads loop over images and test for empty tensors, which an exporter cannot follow. Here
    is the same for one image: a detector with one head counts as a cascade of one stage.

    Args:
        detector: of ours, in evaluation mode.

    Shape: maps ``(1, C, H, W)`` to boxes ``(N, 4)``, scores ``(N,)``, descending, labels ``(N,)`` from 1 and,
    of a detector that has them, masks ``(N, side, side)`` from 0 to 1, each in its box.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.rpn: Any = detector.rpn
        self.anchors = Anchors(detector.rpn.anchor_generator.cell_anchors)
        heads = detector.roi_heads
        stages: Any = heads.stages if isinstance(heads, CascadeHeads) else nn.ModuleList([heads])
        self.stages, self.masks = stages, stages[0].has_mask()

    def forward(self, maps: Sequence[Tensor], padded: Tensor, size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Detect.

        Args:
            maps: of the pyramid, from fine to coarse.
            padded: the image that they were made of.
            size: height and width of the image without its padding.
        """
        proposals = self.propose(maps, padded, size)
        probabilities = []
        for number, stage in enumerate(self.stages, start=1):
            regions = pooled(maps, proposals, stage.box_roi_pool)
            logits, deltas = stage.box_predictor(stage.box_head(regions))
            probabilities.append(logits.softmax(-1))
            # (N, 4 (1 + classes)) -> (N, 1 + classes, 4)
            boxes = stage.box_coder.decode_single(deltas, proposals).unflatten(1, (-1, 4))
            boxes = clip_boxes_to_image(boxes, size)
            if number < len(self.stages):
                proposals = boxes[torch.arange(boxes.shape[0]), likeliest(logits)]
        found = self.keep(boxes, torch.stack(probabilities).mean(0), size)
        return (*found, self.draw(maps, found[0], found[2])) if self.masks else found

    def propose(self, maps: Sequence[Tensor], padded: Tensor, size: tuple[int, int]) -> Tensor:
        """The likeliest regions of all maps ``(N, 4)``, the likeliest first, overlaps in a map removed."""
        rpn = self.rpn
        found = [self.regions(x, level, padded, size) for level, x in enumerate(maps)]
        if len(maps) * rpn.pre_nms_top_n() > FEW:
            kept = [nms(boxes, scores, rpn.nms_thresh) for boxes, scores in found]
            found = [(boxes[k], scores[k]) for (boxes, scores), k in zip(found, kept, strict=True)]
            boxes, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
            order = scores.argsort(descending=True)
        else:
            boxes, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
            levels = torch.cat([torch.full_like(scores, level) for level, (_, scores) in enumerate(found)])
            order = nms_by_class(boxes, scores, levels, rpn.nms_thresh)
        return boxes[order[: rpn.post_nms_top_n()]]

    def regions(self, x: Tensor, level: int, padded: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The likeliest regions ``(K, 4)`` of one map ``(1, C, H, W)`` and their scores."""
        rpn = self.rpn
        shared = rpn.head.conv(x)
        scores = rpn.head.cls_logits(shared)[0].permute(1, 2, 0).flatten()
        deltas = rpn.head.bbox_pred(shared)[0].permute(1, 2, 0).reshape(-1, 4)
        scores, chosen = scores.topk(torch.sym_min(rpn.pre_nms_top_n(), scores.shape[0]))
        anchors = self.anchors(x, level, padded)[chosen]
        boxes = clip_boxes_to_image(rpn.box_coder.decode_single(deltas[chosen], anchors), size)
        large = remove_small_boxes(boxes, rpn.min_size)
        return boxes[large], scores[large].sigmoid()

    def keep(
        self, boxes: Tensor, probabilities: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The objects among boxes ``(N, 1 + classes, 4)`` of all classes, overlaps removed.

        Args:
            boxes: of each region and class, inside the image.
            probabilities: of each region and class ``(N, 1 + classes)``.
            size: height and width of the image.
        """
        # The options of the last stage hold, as they do for the detector.
        stage, classes = self.stages[-1], probabilities.shape[1] - 1
        boxes, scores = boxes[:, 1:].reshape(-1, 4), probabilities[:, 1:].flatten()
        likely = torch.where(scores > stage.score_thresh)[0]
        likely = likely[remove_small_boxes(boxes[likely], min_size=1e-2)]
        boxes, scores, labels = boxes[likely], scores[likely], likely % classes + 1
        kept = nms_by_class(boxes, scores, labels, stage.nms_thresh)[: stage.detections_per_img]
        return boxes[kept], scores[kept], labels[kept]

    def draw(self, maps: Sequence[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """The mask of each object in its box ``(N, side, side)``, the mean of all stages'."""
        masks = []
        for stage in self.stages:
            logits = stage.mask_predictor(stage.mask_head(pooled(maps, boxes, stage.mask_roi_pool)))
            masks.append(logits[torch.arange(logits.shape[0]), labels].sigmoid())
        return torch.stack(masks).mean(0)


def pooled(maps: Sequence[Tensor], boxes: Tensor, pool: MultiScaleRoIAlign) -> Tensor:
    """Each region from the map of its level: boxes ``(N, 4)`` to ``(N, C, side, side)``.

    Args:
        maps: ``(1, C, H, W)``, from fine to coarse; those beyond the scales of the pool are not used.
        boxes: left, top, right and bottom in pixels.
        pool: knows scales and levels.
    """
    assert pool.scales is not None  # both are set where the pool is built
    assert pool.map_levels is not None
    levels = pool.map_levels([boxes])
    # The first column is the number of the image, of which there is one.
    regions = F.pad(boxes, (1, 0))
    found = boxes.new_zeros(boxes.shape[0], maps[0].shape[1], *pool.output_size)
    for level, scale in enumerate(pool.scales):
        own = torch.where(levels == level)[0]
        part = roi_align(maps[level], regions[own], pool.output_size, scale, pool.sampling_ratio)
        found = found.index_put((own,), part)
    return found
