# SPDX-License-Identifier: Apache-2.0
"""Boxes, masks and names on a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import ImageColor

from slideformer.viz import detections, draw_detections
from slideformer.viz.detections import CLASS_COLOURS, MASK_OPACITY
from slideformer.viz.legend import Entry
from slideformer.viz.placement import Rectangle

GREY = np.full((600, 800, 3), 100, np.uint8)


def colour(label: int) -> np.ndarray:
    return np.array(ImageColor.getrgb(CLASS_COLOURS[label - 1]))


def drawn(**values: Any) -> np.ndarray:
    """The part that shows the image; the legend is to the right of it."""
    return complete(**values)[:600, :800]


def complete(**values: Any) -> np.ndarray:
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
    assert (corner[:40, :790] != 100).any()
    assert corner.shape == GREY.shape


def test_the_surer_one_lies_on_top() -> None:
    both = {"boxes": [[100, 200, 300, 400]] * 2, "labels": [1, 2]}
    np.testing.assert_array_equal(drawn(**both, scores=[0.2, 0.8])[399, 200], colour(2))
    np.testing.assert_array_equal(drawn(**both, scores=[0.8, 0.2])[399, 200], colour(1))


def test_nothing_found_leaves_the_picture_as_it_is() -> None:
    nothing = {"boxes": np.zeros((0, 4)), "labels": [], "scores": [], "masks": np.zeros((0, 600, 800))}
    np.testing.assert_array_equal(drawn(**nothing), GREY)


@pytest.mark.parametrize("size", [(28, 28), (64, 64), (600, 150), (2000, 1500)])
def test_the_image_keeps_its_size_and_its_pixels_outside_boxes_and_labels(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    box = [size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2]
    found = np.asarray(draw_detections(pixels, [box], [1], [0.5], ["a"]))
    assert found.shape[1] > size[0], "the legend is to the right"
    image = found[: size[1], : size[0]]
    np.testing.assert_array_equal(image[size[1] * 3 // 4 :], pixels[size[1] * 3 // 4 :])
    np.testing.assert_array_equal(image[:, size[0] * 3 // 4 :], pixels[:, size[0] * 3 // 4 :])
    inside = (slice(box[1] + 60, box[3] - 60), slice(box[0] + 60, box[2] - 60))
    np.testing.assert_array_equal(image[inside], pixels[inside])
    assert not np.array_equal(image, pixels)


def test_on_a_tiny_image_there_are_boxes_and_words_in_the_legend_alone() -> None:
    found = np.asarray(draw_detections(GREY[:28, :28], [[2, 2, 20, 20]], [1], [0.5], ["a"]))[:28, :28]
    changed = (found != 100).any(-1)
    edge = np.zeros((28, 28), bool)
    edge[2:20, 2:20] = True
    edge[3:19, 3:19] = False
    np.testing.assert_array_equal(changed, edge)


def test_at_most_so_many_are_drawn_those_with_the_highest_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    corners = random.uniform(0, [700, 500], (200, 2))
    boxes = np.concatenate([corners, corners + random.uniform(10, 100, (200, 2))], 1)
    scores = random.permutation(np.linspace(0.01, 0.99, 200))
    painted: dict[str, Any] = {}
    paint = detections.paint_objects

    def keep(image: Any, boxes: Any, labels: Any, words: list[str], masks: Any = None) -> Any:
        painted.update(boxes=boxes, words=words)
        return paint(image, boxes, labels, words, masks)

    monkeypatch.setattr(detections, "paint_objects", keep)
    draw_detections(GREY, boxes, [1] * 200, scores.tolist(), ["a"], max_drawn=50)
    best = np.argsort(-scores)[:50]
    np.testing.assert_array_equal(painted["boxes"], boxes[best])
    assert painted["words"] == [f"a {100 * scores[n]:.0f} %" for n in best]


def test_no_label_of_a_crowd_covers_another(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    corners = random.uniform(0, [700, 500], (200, 2))
    boxes = np.concatenate([corners, corners + random.uniform(10, 100, (200, 2))], 1)
    places: list[Rectangle | None] = []
    place = detections.place_labels
    monkeypatch.setattr(
        detections, "place_labels", lambda *arguments: places.extend(place(*arguments)) or places
    )
    drawn(boxes=boxes, labels=[1] * 200, scores=random.uniform(size=200).tolist())
    count = np.zeros((600, 800), int)
    for left, top, right, bottom in filter(None, places):
        count[top:bottom, left:right] += 1
    assert count.max() == 1
    assert 0.1 < count.mean() < 0.2, "most of the image is seen, and many objects are named"


@pytest.mark.parametrize(
    ("scores", "options", "title", "entries"),
    [
        ([0.9, 0.7, 0.8], {}, "3 objects", ["1 b, 90 %", "2 a, 70 to 80 %"]),
        ([0.9], {}, "1 object", ["1 b, 90 %"]),
        ([0.9, 0.7, 0.8], {"max_drawn": 2}, "2 of 3 objects, those with the highest scores", None),
        ([], {}, "nothing found", []),
    ],
)
def test_the_legend_says_what_is_drawn(
    scores: list[float],
    options: dict[str, int],
    title: str,
    entries: list[str] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: dict[str, Any] = {}

    def keep(image: Any, title: str, entries: list[Entry]) -> Any:
        said.update(title=title, entries=[entry.words for entry in entries])
        return image

    monkeypatch.setattr(detections, "with_legend", keep)
    count = len(scores)
    drawn(boxes=np.full((count, 4), 9.0), labels=[2, 1, 1][:count], scores=scores, **options)
    assert said["title"] == title
    assert entries is None or said["entries"] == entries


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
