# SPDX-License-Identifier: Apache-2.0
"""The outlines of the shapes, against their areas and corners by hand."""

from __future__ import annotations

from math import pi, sin, sqrt

import numpy as np
import pytest

from slideformer.tasks.scenes.shapes import CLASS_NAMES, RING_WIDTH, SHAPES, STAR_INNER_RADIUS

AREAS = {
    "disc": pi,
    "ring": pi * (1 - (1 - RING_WIDTH) ** 2),
    "square": 2.0,
    "triangle": 3 * sqrt(3) / 4,
    "star": 5 * sin(pi / 5) * STAR_INNER_RADIUS,
}


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_a_shape_has_its_area(name: str) -> None:
    step = 0.005
    place = np.arange(-1.2, 1.2, step) + step / 2
    x, y = np.meshgrid(place, place)
    assert (SHAPES[name](x, y) < 0).sum() * step**2 == pytest.approx(AREAS[name], rel=4e-3)


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_the_distance_grows_by_one_for_each_step_away_from_the_shape(name: str) -> None:
    x, y = np.array([0.0, 0.0]), np.array([-1.5, -2.5])  # above a corner, or above the circle
    np.testing.assert_allclose(SHAPES[name](x, y), [0.5, 1.5])


def test_the_ring_has_a_hole() -> None:
    assert SHAPES["ring"](np.zeros(1), np.zeros(1)) == pytest.approx(1 - RING_WIDTH)
