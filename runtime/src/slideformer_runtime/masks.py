# SPDX-License-Identifier: Apache-2.0
"""From masks in their boxes to masks of an image, as torchvision's detectors make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A pixel of a higher probability belongs to a mask.
THRESHOLD = 0.5


def paste(masks: NDArray[np.generic], boxes: NDArray[np.float32], size: Sequence[int]) -> NDArray[np.bool_]:
    """Stretch each mask over its box: ``(N, height, width)``, True on the object.

    Args:
        masks: ``(N, S, S)``, from 0 to 1, each in its box.
        boxes: ``(N, 4)``, left, top, right and bottom in pixels.
        size: height and width of the image.
    """
    side = masks.shape[-1]
    # With a border of one that is not on the object, which the boxes grow by, too.
    bordered = np.pad(masks.astype(np.float32), ((0, 0), (1, 1), (1, 1)))
    corners = grown(boxes, np.float32((side + 2) / side)).astype(np.int64)
    found = np.zeros((len(masks), *size), dtype=bool)
    for mask, target, (left, top, right, bottom) in zip(bordered, found, corners.tolist(), strict=True):
        rows, columns = span(top, bottom, side + 2, size[0]), span(left, right, side + 2, size[1])
        across = mask[:, columns.first] * (1 - columns.share) + mask[:, columns.second] * columns.share
        share = rows.share[:, None]
        values = across[rows.first] * (1 - share) + across[rows.second] * share
        target[rows.start : rows.stop, columns.start : columns.stop] = values > THRESHOLD
    return found


def grown(boxes: NDArray[np.float32], scale: np.float32) -> NDArray[np.float32]:
    """Boxes of so many times the size around the same centres: ``(N, 4)``."""
    half = np.float32(0.5)
    centres = (boxes[:, 2:] + boxes[:, :2]) * half
    halves = (boxes[:, 2:] - boxes[:, :2]) * half * scale
    return np.concatenate([centres - halves, centres + halves], axis=1)


@dataclass(frozen=True)
class Span:
    """The pixels of one axis of an image that a mask covers, and the mask's values that make each.

    Attributes:
        start: first pixel.
        stop: pixel behind the last.
        first: of each pixel the place of a value.
        second: of each pixel the place of the next value.
        share: of each pixel the weight of the second.
    """

    start: int
    stop: int
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    share: NDArray[np.float32]


def span(low: int, high: int, side: int, length: int) -> Span:
    """Stretch the values of one axis over the pixels from ``low`` to ``high``, by linear interpolation.

    Args:
        low: may be outside the image.
        high: may be outside the image.
        side: number of values.
        length: of the image's axis.
    """
    start, stop = max(low, 0), max(min(high + 1, length), 0)
    pixels = np.arange(start, stop) - low
    scale = np.float32(side / max(high - low + 1, 1))
    places = np.maximum((pixels.astype(np.float32) + np.float32(0.5)) * scale - np.float32(0.5), 0)
    first = np.minimum(places.astype(np.int64), side - 1)
    return Span(start, stop, first, np.minimum(first + 1, side - 1), places - first.astype(np.float32))
