# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from slideformer.viz.drawn import class_colours, draw_segmentation, overlay, segmentation_figure


def test_colours_of_classes_differ() -> None:
    assert len(set(class_colours(20))) == 20
    colours = np.array(class_colours(9), dtype=float)
    distances = np.abs(colours[:, None] - colours[None]).sum(-1)[~np.eye(9, dtype=bool)]
    assert distances.min() > 40
    assert class_colours(4, background=True) == [(0, 0, 0), *class_colours(3)]


def test_a_class_is_blended_over_the_picture_and_black_is_not() -> None:
    image = np.full((1, 4, 3), 100, np.uint8)
    found = overlay(image, [[1, 1, 0, 0]], [(0, 0, 0), (200, 0, 100)], opacity=0.5)
    # The second pixel is where the class ends.
    assert found[0].tolist() == [[150, 50, 100], [200, 0, 100], [100, 100, 100], [100, 100, 100]]


@pytest.mark.parametrize(
    ("labels", "words"),
    [(np.zeros((3, 2), int), "as large as the image"), (np.full((2, 2), 5), "must have a colour")],
)
def test_labels_that_do_not_fit_are_refused(labels: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        overlay(np.zeros((2, 2, 3), np.uint8), labels, class_colours(3))


def test_the_legend_names_what_is_there_with_its_share() -> None:
    picture, labels = np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), int)
    labels[:5] = 2
    figure = segmentation_figure(picture, labels, ["ground", "ring", "disc"], class_colours(3))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ground  75.0 %", "disc  25.0 %"]
    many = segmentation_figure(
        picture, np.arange(400).reshape(20, 20) % 30, list("x" * 30), class_colours(30)
    )
    assert many.legends[0].get_title().get_text() == "and 6 more"
    drawn = draw_segmentation(picture, labels, ["ground", "ring", "disc"])
    assert drawn.mode == "RGB"
    assert drawn.size[0] > 400
