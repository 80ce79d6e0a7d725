# SPDX-License-Identifier: Apache-2.0
"""A file is there whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from slideformer.errors import UserError
from slideformer.files import whole, write_text


def test_a_file_has_its_name_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "figures"
    with whole(path) as unfinished:
        unfinished.write_text("new")
        assert unfinished.parent == tmp_path, "a rename is only safe within one file system"
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("ours"), KeyboardInterrupt()]
)
def test_a_failure_keeps_what_stood_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "figures"
    path.write_text("old")
    wanted = UserError if isinstance(error, OSError) else type(error)

    def write_half() -> None:
        with whole(path) as unfinished:
            unfinished.write_text("ne")
            raise error

    with pytest.raises(wanted) as caught:
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    if wanted is UserError:
        assert str(caught.value).startswith(
            f"{path} must be writable, but No space left on device; make room"
        )


def test_a_folder_in_its_place_is_left(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    with pytest.raises(UserError, match="must be writable, but Is a directory"):
        write_text(tmp_path / "figures", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]


def test_a_file_may_be_read_by_others(tmp_path: Path) -> None:
    write_text(tmp_path / "figures", "text")
    (tmp_path / "other").write_text("text")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("figures", "other")]
    assert modes[0] == modes[1]
