# SPDX-License-Identifier: Apache-2.0
"""A legend is next to its image, which stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageColor

from slideformer.viz.legend import ENTRIES, Entry, draw_legend, with_legend
from slideformer.viz.text import font_of, shortened, wrapped


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (64, 64), (1000, 20), (20, 900), (640, 480)])
def test_the_image_is_at_the_upper_left_pixel_for_pixel(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    entries = [Entry("a class", "#ff0000"), Entry("another one", "#00ff00")]
    drawn = np.asarray(with_legend(Image.fromarray(pixels), "two classes", entries))
    np.testing.assert_array_equal(drawn[: size[1], : size[0]], pixels)
    legend = drawn[:, size[0] :]
    for entry in entries:
        swatch = (legend == ImageColor.getrgb(entry.colour)).all(-1)
        assert swatch.sum() >= 100, "as large as it must be to be seen, whatever the size of the image"


def test_a_swatch_is_coloured_as_far_as_its_share() -> None:
    def coloured(share: float) -> int:
        drawn = np.asarray(draw_legend("", [Entry("", "#ff0000", share)], 20, swatch=5))
        return int((drawn == (255, 0, 0)).all(-1).any(0).sum())

    assert coloured(0.5) == pytest.approx(50, abs=2)
    assert coloured(0.1) == pytest.approx(10, abs=2)


def test_entries_without_room_are_counted() -> None:
    def height(count: int) -> int:
        return draw_legend("", [Entry("x", "#ff0000")] * count, 13).height

    line = height(2) - height(1)
    assert height(ENTRIES) == height(1) + (ENTRIES - 1) * line
    assert height(ENTRIES + 1) == height(ENTRIES + 500) == height(ENTRIES) + line


def test_words_are_cut_or_broken_to_the_width() -> None:
    font = font_of(13)
    cut = shortened("a name that is far too long for its place", font, 100)
    assert cut.endswith("...")
    assert font.getlength(cut) <= 100 < font.getlength("a name that is far too long for its place")
    assert shortened("short", font, 100) == "short"
    lines = wrapped("a title of several words that is far too long", font, 100)
    assert " ".join(lines) == "a title of several words that is far too long"
    assert len(lines) > 1
    assert all(font.getlength(line) <= 100 for line in lines)
