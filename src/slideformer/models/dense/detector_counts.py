# SPDX-License-Identifier: Apache-2.0
"""Parameters and multiply-adds of a detector, in the convention of the paper, and what the paper prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from slideformer.models.counts import frozen, multiply_adds, size
from slideformer.models.dense.counts import DenseCounts, PublishedDense
from slideformer.models.dense.detector import create_detector
from slideformer.models.dense.regions import BOX_SIDE, MASK_SIDE
from slideformer.models.merge import reparameterize

# As OpenMMLab's tools count: COCO's classes, and how many regions go through every head of either kind.
CLASSES = 80
BOXES, MASKS = 1000, 100
SIZE = (800, 1280)


def count_detector(
    head: str,
    backbone: str,
    size_pixels: tuple[int, int] = SIZE,
    options: Mapping[str, Any] | None = None,
) -> DenseCounts:
    """Count a detector of COCO's 80 classes on the meta device, as OpenMMLab's tools do.

    Multiply-adds are those of convolutions and matrix products, the two products of every attention among
    them; those tools leave these out unless told, but the paper's rows, of plain hosts too, have them: PVT-T
    with Mask R-CNN has 240 G with them and 208 G without, Swin-T 267 G and 264 G.

    Args:
        head: name of the head.
        backbone: timm's name of the backbone.
        size_pixels: height and width of the picture.
        options: further arguments of the backbone, such as ``{"slide_stages": ()}`` for the plain host.
    """
    with torch.device("meta"):
        detector = create_detector(head, backbone, CLASSES, options=dict(options or {})).eval()
        parameters = size(detector) + frozen(detector)
        return DenseCounts(parameters, parts(reparameterize(detector), torch.empty(1, 3, *size_pixels)))


def parts(merged: Any, image: Tensor) -> dict[str, int]:
    """Multiply-adds of each part by name: what torchvision does between them depends on the picture.

    Args:
        merged: the detector, on the meta device, as the image is.
        image: ``(1, 3, height, width)``.
    """
    neck = merged.backbone
    counted = {"backbone": multiply_adds(neck.features, image)}
    maps = {str(level): x for level, x in enumerate(neck.features(image)[neck.first :])}
    counted["pyramid"] = multiply_adds(neck.fpn, maps)
    # Torchvision's pyramid adds its coarser maps to the names that it was given.
    levels = list(cast("dict[str, Tensor]", neck.fpn(dict(maps))).values())
    if not hasattr(merged, "rpn"):
        return {**counted, "head": multiply_adds(merged.head, levels)}
    counted["proposals"] = multiply_adds(merged.rpn.head, levels)
    heads = getattr(merged.roi_heads, "stages", [merged.roi_heads])
    regions = {
        "boxes": (BOXES, BOX_SIDE, [(x.box_head, x.box_predictor) for x in heads]),
        "masks": (MASKS, MASK_SIDE, [(x.mask_head, x.mask_predictor) for x in heads if x.has_mask()]),
    }
    for name, (number, side, modules) in regions.items():
        x = torch.empty(number, neck.out_channels, side, side)
        counted[name] = sum(multiply_adds(nn.Sequential(*pair), x) for pair in modules)
    return counted


# What torchvision's heads have and OpenMMLab's have not: four distances, and a mask, of the background.
BACKGROUND = "0.004 M and 0.02 G of ours are a box and a mask of the background, as torchvision has them"
BACKGROUNDS = "0.013 M and 0.07 G of ours are boxes and masks of the background, as torchvision has them"


def row(
    head: str, backbone: str, size_and_cost: tuple[float, float], accuracy: tuple[float, float] | None
) -> PublishedDense:
    """A row of the paper's table: millions and billions, and box and mask AP; none of these for a host."""
    note = BACKGROUNDS if head == "cascade_mask_rcnn" else BACKGROUND
    figures = {} if accuracy is None else dict(zip(("box AP", "mask AP"), accuracy, strict=True))
    return PublishedDense(head, backbone, accuracy is None, *size_and_cost, figures, note)


# Pan et al., 2023, table of COCO results; the hosts' rows are those that it compares with.
PUBLISHED_DETECTORS = (
    row("mask_rcnn", "slide_pvt_tiny", (33, 240), None),
    row("mask_rcnn", "slide_pvt_tiny", (32, 219), (40.4, 38.1)),
    row("mask_rcnn", "slide_pvt_small", (42, 269), (42.8, 40.1)),
    row("mask_rcnn", "slide_pvt_medium", (62, 357), (44.4, 40.8)),
    row("mask_rcnn", "slide_pvt_v2_b1", (33, 222), (42.6, 39.7)),
    row("mask_rcnn", "slide_pvt_v2_b2", (43, 274), (46.0, 41.9)),
    row("mask_rcnn", "slide_swin_tiny", (48, 267), None),
    row("mask_rcnn", "slide_swin_tiny", (48, 268), (46.8, 42.3)),
    row("cascade_mask_rcnn", "slide_swin_tiny", (86, 745), None),
    row("cascade_mask_rcnn", "slide_swin_tiny", (86, 747), (51.1, 44.3)),
    row("cascade_mask_rcnn", "slide_swin_small", (107, 838), (52.5, 45.4)),
    row("cascade_mask_rcnn", "slide_swin_base", (145, 983), (52.7, 45.5)),
)
