# SPDX-License-Identifier: Apache-2.0
"""Removing boxes that overlap a likelier one of their class, in a graph."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms

# Of more boxes torchvision looks at each class by itself, on a CPU.
FEW = 1000


def nms_by_class(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """The boxes that are kept, by number, the likeliest first: ``(N, 4), (N,), (N,) -> (K,)``.

    Boxes of two classes are shifted so that they never overlap, by the very distance that torchvision's
    `batched_nms` takes for `FEW` boxes: another one would round overlaps otherwise.

    Args:
        boxes: inside the image.
        scores: of each.
        labels: class of each, from 0 or from 1 as the detector counts them at this point.
        threshold: of two boxes that overlap by more, the likelier is kept.
    """
    # A zero more, since there may be no box.
    farthest = F.pad(boxes.flatten(), (0, 1)).max()
    return nms(boxes + labels.to(boxes)[:, None] * (farthest + 1), scores, threshold)
