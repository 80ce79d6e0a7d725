# SPDX-License-Identifier: Apache-2.0
"""Many pictures as one."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from slideformer.errors import UserError
from slideformer.viz import image_grid


def test_pictures_stand_in_rows_as_high_as_their_highest(tmp_path: Path) -> None:
    colours = ["red", "lime", "blue", "yellow", "cyan"]
    for colour, size in zip(
        colours, [(640, 320), (100, 50), (320, 320), (320, 160), (640, 640)], strict=True
    ):
        Image.new("RGB", size, colour).save(tmp_path / f"{colour}.png")
    out = image_grid([tmp_path / f"{colour}.png" for colour in colours], tmp_path / "grid.png")
    with Image.open(out) as grid:
        assert grid.size == (4 * 320 + 3 * 8, 320 + 8 + 320)
        assert grid.getpixel((0, 0)) == (255, 0, 0)
        assert grid.getpixel((0, 200)) == (255, 255, 255)  # below the first, which is wide
        assert grid.getpixel((2 * 328, 319)) == (0, 0, 255)
        assert grid.getpixel((0, 328)) == (0, 255, 255)


def test_a_grid_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there must be an image to show, got none"):
        image_grid([], tmp_path / "grid.png")
