# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from slideformer.cli.tasks import picture_files
from slideformer.errors import UserError


def test_every_picture_has_files_of_its_own() -> None:
    paths = [Path("one/a.jpg"), Path("two/a.jpg"), Path("one/a_labels.jpg")]
    files = picture_files(paths, Path("out"), "_labels")
    names = [file.stem + ending for file in files.values() for ending in ("", "_labels")]
    assert names[:4] == ["a", "a_labels", "a-2", "a-2_labels"]
    assert len(set(names)) == 6


@pytest.mark.parametrize("name", ["a.png", "b_labels.png"])
def test_a_picture_is_never_drawn_over(name: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    paths = [tmp_path / "b.jpg", tmp_path / name]
    with pytest.raises(UserError, match=f"must not replace a picture, got .*{name} for both; choose another"):
        picture_files(paths, tmp_path / "link", "_labels")
    assert picture_files(paths, tmp_path / "elsewhere")
