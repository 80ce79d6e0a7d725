# SPDX-License-Identifier: Apache-2.0
"""Labels of boxes do not pile up."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slideformer.viz.placement import place_labels

CANVAS = (300, 200)
BOX = st.tuples(*[st.floats(-20, 320)] * 4).map(
    lambda x: (min(x[0], x[2]), min(x[1], x[3]), max(x[0], x[2]), max(x[1], x[3]))
)
LABEL = st.tuples(st.integers(1, 90), st.integers(1, 20))


@given(st.lists(st.tuples(BOX, LABEL), max_size=60))
def test_labels_are_on_the_canvas_and_share_no_pixel(objects: list) -> None:
    boxes, sizes = [box for box, _ in objects], [size for _, size in objects]
    places = place_labels(boxes, sizes, CANVAS)
    assert len(places) == len(objects)
    painted = np.zeros((CANVAS[1], CANVAS[0]), int)
    for place, (width, height) in zip(places, sizes, strict=True):
        if place is not None:
            left, top, right, bottom = place
            assert (right - left, bottom - top) == (width, height)
            assert 0 <= left < right <= CANVAS[0]
            assert 0 <= top < bottom <= CANVAS[1]
            painted[top:bottom, left:right] += 1
    assert painted.max() <= 1


def test_a_label_is_above_its_box_where_there_is_room() -> None:
    assert place_labels([(50, 50, 90, 90)], [(60, 12)], CANVAS) == [(50, 38, 110, 50)]


def test_a_label_is_below_a_box_at_the_top_and_within_the_canvas_at_the_side() -> None:
    assert place_labels([(290, 0, 300, 30)], [(60, 12)], CANVAS) == [(240, 30, 300, 42)]


def test_of_boxes_in_one_place_the_first_has_the_best_label_and_the_last_have_none() -> None:
    places = place_labels([(50, 50, 90, 90)] * 40, [(40, 12)] * 40, CANVAS)
    assert places[0] == (50, 38, 90, 50)
    assert places[1] == (50, 90, 90, 102)
    assert places[-1] is None
