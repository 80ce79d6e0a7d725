# SPDX-License-Identifier: Apache-2.0
"""The images that files are checked with and int8 is calibrated with."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from slideformer.deploy.inputs import read_images
from slideformer.errors import UserError


def write_images(folder: Path, count: int, broken: set[int]) -> None:
    """Write grey images whose brightness is their number."""
    for number in range(count):
        file = folder / f"{number}.png"
        Image.new("L", (4, 4), number).save(file)
        if number in broken:
            file.write_bytes(file.read_bytes()[:20])


def test_others_take_the_places_of_images_that_cannot_be_read(tmp_path: Path) -> None:
    write_images(tmp_path, 8, {0, 4})
    said: list[str] = []
    images = read_images([str(tmp_path)], 4, said.append)
    assert sorted(image.convert("L").getpixel((0, 0)) for image in images) == [1, 2, 3, 6]
    assert [line.split(": ")[:2] for line in said] == [
        ["left out, unreadable", str(tmp_path / f"{number}.png")] for number in (0, 4)
    ]


def test_where_none_can_be_read_it_is_an_error_that_names_them(tmp_path: Path) -> None:
    write_images(tmp_path, 2, {0, 1})
    with pytest.raises(UserError, match=r"complete and readable, got .*0\.png: .*; .*1\.png: .*; repair"):
        read_images([str(tmp_path)], 1)
