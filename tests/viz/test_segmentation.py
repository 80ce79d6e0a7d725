# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from slideformer.viz import segmentation
from slideformer.viz.legend import Entry
from slideformer.viz.segmentation import class_colours, draw_segmentation, overlay


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


def test_the_legend_names_what_is_there_with_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Entry] = []
    monkeypatch.setattr(segmentation, "with_legend", lambda image, title, entries: said.extend(entries))
    labels = np.zeros((20, 20), int)
    labels[:5] = 2
    draw_segmentation(np.zeros((20, 20, 3), np.uint8), labels, ["ground", "ring", "disc"])
    assert [entry.words for entry in said] == ["ground  75.0 %", "disc  25.0 %"]
    assert [entry.colour for entry in said] == [
        "#{:02x}{:02x}{:02x}".format(*class_colours(3)[number]) for number in (0, 2)
    ]


@pytest.mark.parametrize("size", [(28, 28), (64, 48), (900, 30)])
def test_the_image_keeps_its_size(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    labels = random.integers(0, 3, (size[1], size[0]))
    drawn: Any = draw_segmentation(pixels, labels, ["ground", "ring", "disc"])
    assert drawn.mode == "RGB"
    assert drawn.width > size[0]
    np.testing.assert_array_equal(
        np.asarray(drawn)[: size[1], : size[0]], overlay(pixels, labels, class_colours(3))
    )


def test_pixels_without_a_label_are_striped_in_grey() -> None:
    labels = np.zeros((12, 12), int)
    labels[:, 6:] = 255
    found = overlay(np.full((12, 12, 3), 100, np.uint8), labels, [(0, 0, 0)], ignored=255)
    assert (found[:, :5] == 100).all(), "black leaves the image as it is"
    stripes = found[:, 6:]
    assert len(np.unique(stripes)) == 2
    assert (stripes == stripes[..., :1]).all()
    with pytest.raises(ValueError, match="must have a colour, got 1 for class 255"):
        overlay(np.zeros((12, 12, 3), np.uint8), labels, [(0, 0, 0)])
