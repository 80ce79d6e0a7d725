# SPDX-License-Identifier: Apache-2.0
"""The runtime reads images as slideformer does."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slideformer_runtime import UserError
from slideformer_runtime.images import UnreadableImageError
from slideformer_runtime.images import find_images as find_in_runtime
from slideformer_runtime.images import read_image as read_in_runtime

from slideformer.tasks.images import find_images, read_image
from tests.runtime.made_images import NAMES
from tests.tasks.odd_images import REFUSED, SHOWN
from tests.tasks.test_walk import write_links


@pytest.mark.parametrize("name", NAMES)
def test_the_same_bytes_give_the_same_pixels(name: str, images: dict[str, Path]) -> None:
    found, wanted = read_in_runtime(images[name]), read_image(images[name])
    assert found.mode == wanted.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


@pytest.mark.parametrize("name", ["coffee.png", "turned_by_exif.jpg", "sixteen_bits.png"])
def test_bytes_an_open_file_and_an_image_are_read_as_a_path(name: str, images: dict[str, Path]) -> None:
    content = images[name].read_bytes()
    wanted = np.asarray(read_in_runtime(images[name]))
    for source in (content, io.BytesIO(content), Image.open(io.BytesIO(content))):
        np.testing.assert_array_equal(np.asarray(read_in_runtime(source)), wanted)


def test_an_image_that_is_cut_short_is_rejected(images: dict[str, Path]) -> None:
    content = images["coffee.png"].read_bytes()
    with pytest.raises(UnreadableImageError):
        read_in_runtime(content[: len(content) // 2])


def test_the_same_names_name_the_same_images(tmp_path: Path, images: dict[str, Path]) -> None:
    for name in ("b/2.png", "a/1.JPG", "a/.hidden.png", "a/notes.txt", ".secret/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    given = [str(tmp_path), str(tmp_path / "b" / "*.png"), str(images["coffee.png"])]
    assert find_in_runtime(given) == [str(path) for path in find_images(given)]
    assert [Path(path).name for path in find_in_runtime(given)] == ["1.JPG", "2.png", "coffee.png"]


def test_a_name_without_an_image_is_rejected() -> None:
    with pytest.raises(UserError, match=r"no_such_\*.png must be an image, .* but names none"):
        find_in_runtime(["no_such_*.png"])


@pytest.mark.parametrize("name", SHOWN)
def test_every_mode_and_format_gives_the_pixels_of_slideformer(name: str) -> None:
    np.testing.assert_array_equal(
        np.asarray(read_in_runtime(SHOWN[name][0])), np.asarray(read_image(SHOWN[name][0]))
    )


@pytest.mark.parametrize("name", REFUSED)
def test_an_undefined_white_is_rejected_with_path_and_mode(name: str, tmp_path: Path) -> None:
    data, words = REFUSED[name]
    path = tmp_path / "image.tif"
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=f"{re.escape(str(path))}: .*{words}"):
        read_in_runtime(path)


def test_links_that_lead_back_are_reported_and_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_links(tmp_path)
    given = [str(tmp_path / "root" / "a")]
    assert find_in_runtime(given) == [str(path) for path in find_images(given)]
    assert [Path(path).name for path in find_in_runtime(given)] == ["1.png", "3.png"]
    err = capsys.readouterr().err
    assert err.count("up' leads to") == err.count("itself' leads to") == 1
