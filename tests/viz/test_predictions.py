# SPDX-License-Identifier: Apache-2.0
"""Predictions are titled by what is shown, and by how many are right of all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from slideformer.viz import draw_predictions, predictions
from slideformer.viz.figure import INK, RIGHT, WRONG
from slideformer.viz.sheet import Part

IMAGE = np.zeros((32, 32, 3), np.uint8)


@pytest.fixture
def sheet(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The title and the parts that are drawn."""
    drawn: dict[str, Any] = {}
    draw = predictions.draw_sheet

    def keep(title: str, parts: list[Part], **options: Any) -> Any:
        drawn.update(title=title, parts=parts)
        return draw(title, parts, **options)

    monkeypatch.setattr(predictions, "draw_sheet", keep)
    return drawn


def lines(part: Part) -> list[tuple[str, ...]]:
    return [tile.lines for tile in part.tiles]


def test_mistakes_come_first_the_most_confident_of_them_at_the_front(sheet: dict[str, Any]) -> None:
    labels, guesses = [0, 1, 1, 0], [0, 0, 1, 1]
    draw_predictions([IMAGE] * 4, labels, guesses, [0.9, 0.6, 0.8, 0.7], ["cat", "dog"], subject="photos")
    assert sheet["title"] == "50.0 % right: 2 of 4 photos"
    wrong, right = sheet["parts"]
    assert wrong.title.startswith("all mistakes, the most confident first")
    assert lines(wrong) == [("70 %: dog", "true: cat"), ("60 %: cat", "true: dog")]
    assert right.title == "all that are right"
    assert lines(right) == [("90 %: cat",), ("80 %: dog",)]
    # Told apart by more than the colour: by the frame, and by the words.
    assert [(tile.framed, tile.colour) for tile in wrong.tiles] == [(True, WRONG)] * 2
    assert [(tile.framed, tile.colour) for tile in right.tiles] == [(False, RIGHT)] * 2


def test_of_many_it_says_how_many_are_shown_and_how_many_there_are(sheet: dict[str, Any]) -> None:
    labels = [0] * 300 + [1] * 60
    draw_predictions([IMAGE] * 360, labels, [0] * 360, np.linspace(0, 1, 360).tolist(), ["cat", "dog"])
    assert sheet["title"] == "83.3 % right: 300 of 360 images"
    wrong, right = sheet["parts"]
    assert wrong.title.startswith("the 24 most confident of 60 mistakes: ")
    assert right.title == "16 of the 300 that are right, picked evenly"
    assert [len(part.tiles) for part in sheet["parts"]] == [24, 16]
    assert lines(wrong)[0][0] == "100 %: cat"


@pytest.mark.parametrize(("guesses", "title"), [([0, 0], "all that are right"), ([1, 1], "all mistakes")])
def test_a_part_that_would_be_empty_is_left_out(
    guesses: list[int], title: str, sheet: dict[str, Any]
) -> None:
    draw_predictions([IMAGE] * 2, [0, 0], guesses, [0.5, 0.6], ["cat", "dog"])
    (part,) = sheet["parts"]
    assert part.title.startswith(title)


def test_without_labels_nothing_is_called_right_or_wrong(sheet: dict[str, Any]) -> None:
    draw_predictions([IMAGE] * 2, None, [1, 0], [0.9, 0.6], ["cat", "dog"], subject="photos")
    assert sheet["title"] == "predicted classes with their probabilities: 2 of 2 photos, without labels"
    (part,) = sheet["parts"]
    assert lines(part) == [("90 %: dog",), ("60 %: cat",)]
    assert {tile.colour for tile in part.tiles} == {INK}


@pytest.mark.parametrize(("labels", "guesses"), [([0], [0, 1]), ([0, 1], [0])])
def test_lengths_that_differ_are_refused(labels: list[int], guesses: list[int]) -> None:
    with pytest.raises(ValueError, match="as many labels, predictions and confidences as images"):
        draw_predictions([IMAGE] * 2, labels, guesses, [0.5, 0.5], ["cat", "dog"])


def test_an_image_is_on_the_sheet_with_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    drawn = np.asarray(draw_predictions([pixels], [0], [0], [1.0], ["cat"]))
    large = pixels.repeat(4, 0).repeat(4, 1)
    corners = np.argwhere((drawn == large[0, 0]).all(-1))
    assert any(
        np.array_equal(drawn[row : row + 128, column : column + 128], large) for row, column in corners
    )
