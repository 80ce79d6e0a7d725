# SPDX-License-Identifier: Apache-2.0
"""Detectors that run in a blink, and pictures with objects for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from slideformer.dense.detector import HEADS, create_detector
from slideformer.dense.detector_options import MaskOptions, RegionOptions
from slideformer.runs import Blueprint, Run

CLASSES = 3
ALL = {"fpn_channels": 16, "min_size": 64, "max_size": 128, "score_threshold": 0.0}
REGIONS = {"head_channels": 32, "proposals": 40, "proposals_training": 60}
MASKS = {"mask_channels": 8}


def small(head: str, backbone: str = "slide_swin_nano", **arguments: Any) -> nn.Module:
    """A small detector of three classes, always the same, in evaluation mode."""
    return small_run(head, backbone, **arguments).model


def small_run(head: str, backbone: str = "slide_swin_nano", **arguments: Any) -> Run:
    """The run of such a detector, without names of classes."""
    torch.manual_seed(0)
    kind = HEADS[head].options
    own = {**ALL}
    own |= REGIONS if issubclass(kind, RegionOptions) else {}
    own |= MASKS if issubclass(kind, MaskOptions) else {}
    blueprint = Blueprint("detect", backbone, CLASSES, head, {**own, **arguments})
    return Run(
        model=create_detector(head, backbone, CLASSES, **blueprint.arguments).eval(), blueprint=blueprint
    )


def pictures() -> list[Tensor]:
    """Two of different sizes."""
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, 70, 90, generator=generator), torch.rand(3, 64, 50, generator=generator)]


def objects(boxes: list[list[float]], labels: list[int], height: int, width: int) -> dict[str, Tensor]:
    """What is in a picture; each object fills its box."""
    masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[int(top) : int(bottom), int(left) : int(right)] = 1
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4).float(),
        "labels": torch.tensor(labels, dtype=torch.long),
        "masks": masks,
    }


def targets() -> list[dict[str, Tensor]]:
    """Two objects in the first picture, none in the second."""
    return [objects([[10, 10, 30, 40], [30, 20, 80, 60]], [1, 3], 70, 90), objects([], [], 64, 50)]
