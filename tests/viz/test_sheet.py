# SPDX-License-Identifier: Apache-2.0
"""Many images on one sheet."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from slideformer.viz.legend import Entry
from slideformer.viz.sheet import Part, Tile, display, draw_sheet, pick_evenly

COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200)]


def places(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels of a colour, which fill that rectangle."""
    rows, columns = np.nonzero((np.asarray(sheet) == colour).all(-1))
    assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def test_images_are_in_rows_part_below_part_as_large_as_they_are() -> None:
    sizes = [(64, 32), (10, 50), (32, 32), (32, 16), (64, 64)]
    tiles = [
        Tile(Image.new("RGB", size, colour), ("words",)) for size, colour in zip(sizes, COLOURS, strict=True)
    ]
    sheet = draw_sheet("title", [Part(tiles[:3], "one"), Part(tiles[3:], "two")], columns=2)
    found = [places(sheet, colour) for colour in COLOURS]
    assert [(right - left, bottom - top) for left, top, right, bottom in found] == sizes
    first, second, third, fourth, fifth = found
    assert first[1] == second[1] < third[1] < fourth[1] == fifth[1]
    assert first[3] < third[1], "a caption is between"
    assert first[0] < second[0]
    assert first[0] + first[2] == third[0] + third[2], "centred in a column"


def test_a_frame_has_the_colour_of_its_tile_around_the_image() -> None:
    tile = Tile(Image.new("RGB", (40, 40), COLOURS[2]), ("wrong",), "#c80000", framed=True)
    sheet = draw_sheet("title", [Part([tile])], columns=1)
    left, top, right, bottom = places(sheet, COLOURS[2])
    pixels = np.asarray(sheet)
    for row, column in ((top - 1, left), (bottom, left), (top, left - 1), (top, right)):
        assert tuple(pixels[row, column]) == (200, 0, 0)


def test_the_legend_is_to_the_right_of_all_images() -> None:
    tile = Tile(Image.new("RGB", (700, 40), COLOURS[2]))
    sheet = draw_sheet("title", [Part([tile])], columns=1, legend=[Entry("sky", "#00c800")])
    rows, columns = np.nonzero((np.asarray(sheet) == COLOURS[1]).all(-1))
    assert len(rows) > 100
    assert columns.min() > places(sheet, COLOURS[2])[2]


@pytest.mark.parametrize(
    ("size", "shown"),
    [((8, 8), (128, 128)), ((50, 30), (100, 60)), ((100, 50), (128, 64)), ((1000, 2), (128, 1))],
)
def test_an_image_fits_its_place_and_a_small_one_shows_its_pixels(
    size: tuple[int, int], shown: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    found = display(Image.fromarray(pixels), 128)
    assert found.size == shown
    if shown[0] >= 2 * size[0]:
        factor = shown[0] // size[0]
        np.testing.assert_array_equal(np.asarray(found), pixels.repeat(factor, 0).repeat(factor, 1))


@pytest.mark.parametrize(
    ("total", "most", "picked"),
    [(3, 5, [0, 1, 2]), (5, 5, [0, 1, 2, 3, 4]), (10, 4, [0, 2, 5, 7]), (0, 4, [])],
)
def test_some_are_picked_evenly(total: int, most: int, picked: list[int]) -> None:
    assert pick_evenly(total, most) == picked
