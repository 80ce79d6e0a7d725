# SPDX-License-Identifier: Apache-2.0
"""What a segmenter costs, in the convention of the paper, and what the paper prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from slideformer.models.counts import frozen, multiply_adds, size
from slideformer.models.dense.counts import DenseCounts, PublishedDense
from slideformer.models.dense.segmenter import create_segmenter
from slideformer.models.merge import reparameterize

# Of ADE20K, and of the pictures with which the paper counts.
CLASSES = 150
HEIGHT_WIDTH = (512, 2048)


def count_segmenter(
    head: str,
    backbone: str,
    *,
    picture: tuple[int, int] = HEIGHT_WIDTH,
    options: Mapping[str, Any] | None = None,
) -> DenseCounts:
    """Count a segmenter of ADE20K's 150 classes on the meta device, as OpenMMLab's tools do.

    Parameters are those of training, the auxiliary head among them; multiply-adds are those of inference, of
    convolutions and matrix products, attention's as well, of the merged model.

    Args:
        head: name of the head.
        backbone: timm's name of the backbone.
        picture: height and width in pixels, multiples of the coarsest stride.
        options: further arguments of the backbone, such as ``{"slide_stages": ()}`` for the plain host.
    """
    with torch.device("meta"):
        model = create_segmenter(head, backbone, CLASSES, options=options).eval()
        image = torch.empty(1, 3, *picture)
    merged = reparameterize(model)
    backbone_cost = multiply_adds(merged.features, image)  # type: ignore[arg-type]
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
