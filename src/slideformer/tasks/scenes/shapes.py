# SPDX-License-Identifier: Apache-2.0
"""The shapes of the objects, which are their classes, as signed distances to an outline."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float64]
RING_WIDTH = 0.4
STAR_INNER_RADIUS = 0.45


def disc(x: Map, y: Map) -> Map:
    """A full circle."""
    return np.hypot(x, y) - 1


def ring(x: Map, y: Map) -> Map:
    """A circle with a hole, through which the background is seen."""
    return np.abs(np.hypot(x, y) - (1 - RING_WIDTH / 2)) - RING_WIDTH / 2


def square(x: Map, y: Map) -> Map:
    """Four equal sides."""
    return polygon(x, y, corners(4))


def triangle(x: Map, y: Map) -> Map:
    """Three equal sides."""
    return polygon(x, y, corners(3))


def star(x: Map, y: Map) -> Map:
    """Five points."""
    points = corners(10)
    points[1::2] *= STAR_INNER_RADIUS
    return polygon(x, y, points)


# Class -> its signed distance, negative inside, at coordinates of which 1 is the radius around the shape.
SHAPES: dict[str, Callable[[Map, Map], Map]] = {
    "disc": disc,
    "ring": ring,
    "square": square,
    "triangle": triangle,
    "star": star,
}
CLASS_NAMES = tuple(SHAPES)


def corners(count: int) -> NDArray[np.float64]:
    """Evenly spaced points ``(count, 2)`` on the circle of radius 1, the first one at the top."""
    angles = 2 * np.pi * np.arange(count) / count
    return np.stack([np.sin(angles), -np.cos(angles)], axis=1)


def polygon(x: Map, y: Map, points: NDArray[np.float64]) -> Map:
    """Signed distance to a polygon, negative inside.

    Args:
        x: coordinates, to the right.
        y: coordinates, downward, of the same shape.
        points: ``(count, 2)``, in order around the outline, which closes itself.
    """
    nearest = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        along = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2)
        along = along.clip(0, 1)
        nearest = np.minimum(nearest, np.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay)))
        # A ray to the right leaves the polygon as often as it enters it, plus once from inside.
        if ay != by:
            crosses = ((ay > y) != (by > y)) & (x < ax + (y - ay) * (bx - ax) / (by - ay))
            inside ^= crosses
    return np.where(inside, -nearest, nearest)
