# SPDX-License-Identifier: Apache-2.0
"""How far two sets of boxes are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DetectionDifference:
    """How far file and model are apart in what they find in one picture.

    Attributes:
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        detections: that the model finds.
        unmatched: of these, and of the file's, without one of the other's in the same place.
        box: largest difference of a side of two that match, in pixels.
        score: largest difference of their scores.
    """

    height: int
    width: int
    detections: int
    unmatched: int
    box: float
    score: float


# Two boxes whose sides are no further apart, in pixels, are one.
SAME_PLACE = 0.1


def compare_detections(
    height: int, width: int, found: Sequence[Tensor], wanted: Sequence[Tensor]
) -> DetectionDifference:
    """What differs between two sets of boxes ``(N, 4)``, scores ``(N,)`` and labels ``(N,)``."""
    apart = (found[0][:, None] - wanted[0]).abs().amax(-1)  # (found, wanted)
    apart[found[2][:, None] != wanted[2]] = torch.inf
    alone = (~(apart <= SAME_PLACE)).all(1).sum() + (~(apart <= SAME_PLACE)).all(0).sum()
    first, second = (apart <= SAME_PLACE).nonzero(as_tuple=True)
    scores = (found[1][first] - wanted[1][second]).abs()
    largest = [float(x.max()) if len(x) else 0.0 for x in (apart[first, second], scores)]
    return DetectionDifference(height, width, len(wanted[1]), int(alone), *largest)
