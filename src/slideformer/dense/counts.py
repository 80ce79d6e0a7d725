# SPDX-License-Identifier: Apache-2.0
"""Parameters and multiply-adds of detectors and segmenters, counted as in the paper, and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from slideformer.dense.detector import create_detector
from slideformer.dense.regions import BOX_SIDE, MASK_SIDE
from slideformer.dense.segmenter import create_segmenter
from slideformer.models.counts import frozen, multiply_adds, size
from slideformer.models.merge import reparameterize


@dataclass(frozen=True)
class DenseCounts:
    """Size and cost of a model.

    Attributes:
        parameters: as the paper trains it: with the frozen kernel of every shift.
        multiply_adds: of one image, by part, in the order of the computation.
    """

    parameters: int
    multiply_adds: dict[str, int]

    @property
    def total(self) -> int:
        """Multiply-adds of all parts."""
        return sum(self.multiply_adds.values())


@dataclass(frozen=True)
class PublishedDense:
    """The figures that the paper prints for a dense model.

    Attributes:
        head: our name of the head, such as ``mask_rcnn``.
        backbone: our name of the backbone.
        host: whether the row is that of the plain host: ours with ``slide_stages=()``.
        parameters_m: in millions.
        multiply_adds_g: in billions.
        accuracy: the paper's figures by name, in percent, such as ``{"box AP": 46.8}``; empty for a host.
        note: why ours differ; empty if there is nothing to say.
    """

    head: str
    backbone: str
    host: bool
    parameters_m: float
    multiply_adds_g: float
    accuracy: dict[str, float]
    note: str = ""


# As OpenMMLab's tools count: COCO's classes, and how many regions go through every head of either kind.
COCO_CLASSES = 80
BOXES, MASKS = 1000, 100
COCO_SIZE = (800, 1280)


def count_detector(
    head: str,
    backbone: str,
    size_pixels: tuple[int, int] = COCO_SIZE,
    options: Mapping[str, Any] | None = None,
) -> DenseCounts:
    """Count a detector of COCO's 80 classes on the meta device, as OpenMMLab's tools do.

    Multiply-adds are those of convolutions and matrix products, the two products of every attention among
    them; those tools leave these out by default, but the paper's rows, of plain hosts too, have them: PVT-T
    with Mask R-CNN has 240 G with them and 208 G without, Swin-T 267 G and 264 G.

    Args:
        head: name of the head.
        backbone: timm's name of the backbone.
        size_pixels: height and width of the image.
        options: further arguments of the backbone, such as ``{"slide_stages": ()}`` for the plain host.
    """
    with torch.device("meta"):
        detector = create_detector(head, backbone, COCO_CLASSES, options=dict(options or {})).eval()
        parameters = size(detector) + frozen(detector)
        return DenseCounts(parameters, parts(reparameterize(detector), torch.empty(1, 3, *size_pixels)))


def parts(merged: Any, image: Tensor) -> dict[str, int]:
    """Multiply-adds of each part by name: what torchvision does between them depends on the image.

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


# Of ADE20K, and of the images with which the paper counts.
ADE_CLASSES, ADE_SIZE = 150, (512, 2048)


def count_segmenter(
    head: str,
    backbone: str,
    *,
    size_pixels: tuple[int, int] = ADE_SIZE,
    options: Mapping[str, Any] | None = None,
) -> DenseCounts:
    """Count a segmenter of ADE20K's 150 classes on the meta device, as OpenMMLab's tools do.

    Parameters are those of training, the auxiliary head among them; multiply-adds are those of inference, of
    convolutions and matrix products, attention's as well, of the merged model.

    Args:
        head: name of the head.
        backbone: timm's name of the backbone.
        size_pixels: height and width of the image, multiples of the coarsest stride.
        options: further arguments of the backbone, such as ``{"slide_stages": ()}`` for the plain host.
    """
    with torch.device("meta"):
        model = create_segmenter(head, backbone, ADE_CLASSES, options=options).eval()
        image = torch.empty(1, 3, *size_pixels)
    merged = reparameterize(model)
    backbone_cost = multiply_adds(cast("nn.Module", merged.features), image)
    whole = multiply_adds(merged, image)
    return DenseCounts(
        size(model) + frozen(model), {"backbone": backbone_cost, "head": whole - backbone_cost}
    )


# Pan et al., 2023, table of ADE20K results, and of their plain hosts.
PUBLISHED_SEGMENTERS = (
    PublishedDense("semantic_fpn", "slide_pvt_tiny", False, 16, 136, {"mIoU": 38.43, "mAcc": 50.05}),
    PublishedDense("semantic_fpn", "slide_pvt_small", False, 26, 188, {"mIoU": 42.47, "mAcc": 54.00}),
    PublishedDense("semantic_fpn", "slide_pvt_tiny", True, 17, 158, {}),
    PublishedDense("upernet", "slide_swin_tiny", False, 60, 946, {"mIoU": 45.67, "mAcc": 57.13}),
    PublishedDense("upernet", "slide_swin_small", False, 81, 1038, {"mIoU": 48.46, "mAcc": 60.18}),
    PublishedDense("upernet", "slide_swin_tiny", True, 60, 945, {}),
)
