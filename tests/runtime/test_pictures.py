# SPDX-License-Identifier: Apache-2.0
"""The runtime reads pictures as slideformer does."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slideformer_runtime import UserError
from slideformer_runtime.pictures import UnreadableImageError, find_pictures, read_picture

from slideformer.tasks.pictures import find_images, read_image
from tests.runtime.made_pictures import NAMES
from tests.tasks.images import REFUSED, SHOWN
from tests.tasks.test_walk import write_links


@pytest.mark.parametrize("name", NAMES)
def test_the_same_bytes_give_the_same_pixels(name: str, pictures: dict[str, Path]) -> None:
    found, wanted = read_picture(pictures[name]), read_image(pictures[name])
    assert found.mode == wanted.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


@pytest.mark.parametrize("name", ["coffee.png", "turned_by_exif.jpg", "sixteen_bits.png"])
def test_bytes_an_open_file_and_a_picture_are_read_as_a_path_is(name: str, pictures: dict[str, Path]) -> None:
    content = pictures[name].read_bytes()
    wanted = np.asarray(read_picture(pictures[name]))
    for source in (content, io.BytesIO(content), Image.open(io.BytesIO(content))):
        np.testing.assert_array_equal(np.asarray(read_picture(source)), wanted)


def test_a_picture_that_is_cut_short_is_refused(pictures: dict[str, Path]) -> None:
    content = pictures["coffee.png"].read_bytes()
    with pytest.raises(UnreadableImageError):
        read_picture(content[: len(content) // 2])


def test_the_same_names_name_the_same_pictures(tmp_path: Path, pictures: dict[str, Path]) -> None:
    for name in ("b/2.png", "a/1.JPG", "a/.hidden.png", "a/notes.txt", ".secret/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    given = [str(tmp_path), str(tmp_path / "b" / "*.png"), str(pictures["coffee.png"])]
    assert find_pictures(given) == [str(path) for path in find_images(given)]
    assert [Path(path).name for path in find_pictures(given)] == ["1.JPG", "2.png", "coffee.png"]


def test_a_name_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"no_such_\*.png must be a picture, .* but names none"):
        find_pictures(["no_such_*.png"])


@pytest.mark.parametrize("name", SHOWN)
def test_every_mode_and_format_gives_the_pixels_of_slideformer(name: str) -> None:
    np.testing.assert_array_equal(
        np.asarray(read_picture(SHOWN[name][0])), np.asarray(read_image(SHOWN[name][0]))
    )


@pytest.mark.parametrize("name", REFUSED)
def test_no_known_white_is_refused_with_path_and_mode(name: str, tmp_path: Path) -> None:
    data, words = REFUSED[name]
    path = tmp_path / "image.tif"
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=f"{re.escape(str(path))}: .*{words}"):
        read_picture(path)


def test_links_that_lead_back_are_reported_and_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_links(tmp_path)
    given = [str(tmp_path / "root" / "a")]
    assert find_pictures(given) == [str(path) for path in find_images(given)]
    assert [Path(path).name for path in find_pictures(given)] == ["1.png", "3.png"]
    err = capsys.readouterr().err
    assert err.count("up' leads to") == err.count("itself' leads to") == 1
