# SPDX-License-Identifier: Apache-2.0
"""Boxes, masks and names on a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import ImageColor

from slideformer.viz import draw_detections
from slideformer.viz.drawn import CLASS_COLOURS, MASK_OPACITY, SMALLEST_SIDE

GREY = np.full((600, 800, 3), 100, np.uint8)


def colour(label: int) -> np.ndarray:
    return np.array(ImageColor.getrgb(CLASS_COLOURS[label - 1]))


def drawn(**values: Any) -> np.ndarray:
    arguments = {"boxes": [[100, 200, 300, 400]], "labels": [2], "scores": [0.9], "class_names": ["a", "b"]}
    return np.asarray(draw_detections(GREY, **{**arguments, **values}))


def test_a_box_is_framed_in_the_colour_of_its_class() -> None:
    pixels = drawn()
    for row, column in ((200, 200), (399, 200), (300, 100), (300, 299)):
        np.testing.assert_array_equal(pixels[row, column], colour(2))
    np.testing.assert_array_equal(pixels[300, 200], 100)
    np.testing.assert_array_equal(pixels[420:], 100)


def test_a_mask_is_tinted_and_outlined() -> None:
    mask = np.zeros((1, 600, 800))
    mask[0, 250:350, 150:250] = 1
    pixels = drawn(masks=mask)
    np.testing.assert_allclose(pixels[300, 200], 100 + MASK_OPACITY * (colour(2) - 100), atol=0.51)
    np.testing.assert_array_equal(pixels[250, 200], colour(2))
    np.testing.assert_array_equal(pixels[240, 200], 100)


def test_words_stay_on_the_picture() -> None:
    corner = drawn(boxes=[[795, 0, 800, 5]])
    assert (corner[:20, :790] != 100).any()
    assert corner.shape == GREY.shape


def test_the_surer_one_lies_on_top() -> None:
    both = {"boxes": [[100, 200, 300, 400]] * 2, "labels": [1, 2]}
    np.testing.assert_array_equal(drawn(**both, scores=[0.2, 0.8])[399, 200], colour(2))
    np.testing.assert_array_equal(drawn(**both, scores=[0.8, 0.2])[399, 200], colour(1))


def test_nothing_found_leaves_the_picture_as_it_is() -> None:
    nothing = {"boxes": np.zeros((0, 4)), "labels": [], "scores": [], "masks": np.zeros((0, 600, 800))}
    np.testing.assert_array_equal(drawn(**nothing), GREY)


def test_a_small_image_is_enlarged() -> None:
    image = draw_detections(GREY[:60, :80], [[1, 2, 30, 40]], [1], [0.5], ["a"])
    assert image.size == (round(80 * SMALLEST_SIDE / 60), SMALLEST_SIDE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"labels": [1, 2]}, "as many labels and scores as boxes, got 2, 1 and 1"),
        (
            {"masks": np.zeros((1, 5, 5))},
            r"masks must be 1 of the image's size \(600, 800\), got \(1, 5, 5\)",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        drawn(**values)
