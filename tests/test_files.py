# SPDX-License-Identifier: Apache-2.0
"""A file is there whole or not at all."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from slideformer_runtime.errors import printable as runtime_printable

from slideformer.errors import UserError, printable
from slideformer.files import atomic_write, locked, read_text, regular_file, staged, write_text


def test_a_file_has_its_name_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "figures"
    with atomic_write(path) as unfinished:
        unfinished.write_text("new")
        assert tmp_path in unfinished.parents, "a rename is only safe within one file system"
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
        with atomic_write(path) as unfinished:
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


def test_several_files_move_together_and_the_named_one_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = []
    replace = os.replace

    def noted(source: Path, target: Path) -> None:
        moved.append(target.name)
        replace(source, target)

    monkeypatch.setattr("os.replace", noted)
    path = tmp_path / "deep" / "graph.xml"
    with staged(path) as unfinished:
        assert unfinished.name == path.name
        for name in ("zebra", "graph.bin"):
            unfinished.with_name(name).write_text(name)
        unfinished.write_text("graph")
        assert not path.exists()
    assert moved == ["graph.bin", "zebra", "graph.xml"]
    assert {entry.name: entry.read_text() for entry in path.parent.iterdir()} == {
        "graph.xml": "graph",
        "graph.bin": "graph.bin",
        "zebra": "zebra",
    }


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("ours"), KeyboardInterrupt()]
)
def test_a_failure_keeps_all_files_that_stood_there(tmp_path: Path, error: BaseException) -> None:
    for name in ("graph.xml", "graph.bin"):
        (tmp_path / name).write_text("old")

    def write_half() -> None:
        with staged(tmp_path / "graph.xml") as unfinished:
            unfinished.with_name("graph.bin").write_text("new")
            unfinished.write_text("ne")
            raise error

    with pytest.raises(type(error)) as caught:
        write_half()
    assert caught.value is error
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {
        "graph.xml": "old",
        "graph.bin": "old",
    }


def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with (
        pytest.raises(UserError, match=r"graph\.xml must be writable, but .*choose another place"),
        staged(tmp_path / "file" / "graph.xml"),
    ):
        raise AssertionError("there is nowhere to write to")


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    (path / "kept").mkdir(parents=True)
    with pytest.raises(UserError, match="must be a file or not be there, got a folder"), staged(path) as new:
        new.write_text("graph")
    assert [entry.relative_to(tmp_path).as_posix() for entry in sorted(tmp_path.rglob("*"))] == [
        "model.onnx",
        "model.onnx/kept",
    ]


def test_a_folder_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "model.mlpackage"
    (path / "old").mkdir(parents=True)
    with staged(path) as unfinished:
        (unfinished / "new").mkdir(parents=True)
        (unfinished / "new" / "weights").write_text("weights")
        assert (path / "old").is_dir()
    assert [entry.relative_to(tmp_path) for entry in sorted(tmp_path.rglob("*"))] == [
        Path("model.mlpackage"),
        Path("model.mlpackage/new"),
        Path("model.mlpackage/new/weights"),
    ]


def test_a_folder_that_cannot_be_replaced_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, replace = tmp_path / "model.mlpackage", os.replace
    (path / "old").mkdir(parents=True)

    def fails_once(source: Path, target: Path) -> None:
        if target == path and source.name == path.name:
            raise OSError("no space left")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_once)
    with pytest.raises(UserError, match="must be writable, but no space left"), staged(path) as unfinished:
        (unfinished / "new").mkdir(parents=True)
    assert [entry.relative_to(tmp_path) for entry in sorted(tmp_path.rglob("*"))] == [
        Path("model.mlpackage"),
        Path("model.mlpackage/old"),
    ]


def test_two_that_write_at_once_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "graph.xml"
    with staged(path) as first:
        first.write_text("first")
        with staged(path) as second:
            second.with_name("graph.bin").write_text("second")
            second.write_text("second")
        assert path.read_text() == "second"
        assert first.read_text() == "first"
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {
        "graph.xml": "first",
        "graph.bin": "second",
    }


def write_and_wait(how: str, path: Path) -> subprocess.Popen[str]:
    """A process that has written half of what it will, or holds a lock, and waits."""
    code = (
        f"import pathlib, sys; from slideformer.files import {how} as how\n"
        f"with how(pathlib.Path(sys.argv[1])) as new:\n"
        "    new and new.write_text('half')\n"
        "    print('begun', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize("how", [atomic_write, staged])
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(
    how: Callable[[Path], AbstractContextManager[Path]], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    killed, living = (write_and_wait(how.__name__, path) for _ in range(2))
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert len(list(tmp_path.iterdir())) == 2
    with how(path) as unfinished:
        unfinished.write_text("ours")
    assert path.read_text() == "ours"
    assert len(list(tmp_path.iterdir())) == 2, "the folder of the living one is kept"
    living.communicate("", timeout=60)
    assert living.returncode == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_text() == "half"


def test_a_lock_is_kept_by_the_living_alone(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    process = write_and_wait("locked", path)
    with (
        pytest.raises(
            UserError, match=rf"{tmp_path} is in use by process {process.pid} on .*; let it finish"
        ),
        locked(path),
    ):
        raise AssertionError("it is held")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    with locked(path):
        assert path.read_text().startswith(f"process {os.getpid()} on ")
    assert not path.exists()


def test_a_file_system_without_locks_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.lockf", refuse)
    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.warns(UserWarning, match="start no second run there"), locked(tmp_path / ".lock"):
        write_text(tmp_path / "figures", "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["figures"]


def test_a_system_without_locks_gets_no_lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slideformer.files.fcntl", None)
    monkeypatch.delattr("os.O_DIRECTORY")
    with locked(tmp_path / ".lock"):
        write_text(tmp_path / "figures", "text")
        assert [path.name for path in tmp_path.iterdir()] == ["figures"]


def test_a_text_has_an_encoding_and_an_end(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("ölbaum\r\nkiwi\n".encode("utf-8-sig"))
    assert read_text(path) == "ölbaum\nkiwi\n"
    with pytest.raises(UserError, match=r"classes.txt must have at most 5 bytes, got more"):
        read_text(path, most=5)
    path.write_bytes("ölbaum".encode("latin-1"))
    with pytest.raises(UserError, match=r"classes.txt must be text in UTF-8, got other bytes; save it as"):
        read_text(path)


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    (tmp_path / "file").write_text("text")
    assert regular_file(tmp_path / "file") == tmp_path / "file"
    for name in ("fifo", "link"):
        with pytest.raises(UserError, match=f"{name} must be a regular file, got a FIFO; replace it"):
            regular_file(tmp_path / name)
    with pytest.raises(UserError, match="got a folder"):
        regular_file(tmp_path)
    with pytest.raises(UserError, match="got a device"):
        regular_file("/dev/null")
    with pytest.raises(FileNotFoundError):
        regular_file(tmp_path / "absent")


@pytest.mark.parametrize("shown", [printable, runtime_printable])
def test_a_name_cannot_break_a_message_or_command_a_terminal(shown: Callable[[object], str]) -> None:
    assert shown("a\nb\x1b[31m\udce9\u202e ölbaum") == "a\\nb\\x1b[31m\\udce9\\u202e ölbaum"
    assert shown("\u2028\u2029\x85\ufeff\u2066") == "\\u2028\\u2029\\x85\\ufeff\\u2066"


@pytest.mark.parametrize("shown", [printable, runtime_printable])
@pytest.mark.parametrize(
    "text",
    ["写真\u3000一", "10\u00a0%", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "क्\u200cष", "❤\ufe0f"],
)
def test_ordinary_text_of_any_language_stays_as_it_is(text: str, shown: Callable[[object], str]) -> None:
    assert shown(text) == text
