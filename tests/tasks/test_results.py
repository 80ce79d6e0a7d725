# SPDX-License-Identifier: Apache-2.0
"""The files of results: a name for each image, none of them an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from slideformer.errors import UserError
from slideformer.tasks.results import LABELS, check_output, output_stems


def test_every_image_has_files_of_its_own() -> None:
    stems = output_stems([Path("one/a.jpg"), Path("two/a.jpg"), Path("one/a_labels.jpg")])
    names = [stem + ending for stem in stems for ending in ("", LABELS)]
    assert names[:4] == ["a", "a_labels", "a-2", "a-2_labels"]
    assert len(set(names)) == 6


@pytest.mark.parametrize("name", ["a.png", "b_labels.png"])
def test_an_image_is_never_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    paths = [tmp_path / "b.jpg", tmp_path / name]
    with pytest.raises(UserError, match=f"must not replace an image, got .*{name} for both; choose another"):
        check_output(paths, tmp_path / "link", ("", LABELS))
    check_output(paths, tmp_path / "elsewhere")
