# SPDX-License-Identifier: Apache-2.0
"""Files: reading none that would block, writing them completely or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slideformer.errors import UserError


def regular_file(path: str | Path) -> Path:
    """The path itself, where a regular file, or a link to one, lies there.

    A FIFO, socket or device would block whoever opens it. Everything that is opened by a path that a
    folder or a user names goes through here.

    Raises:
        FileNotFoundError: nothing lies there.
        UserError: something else lies there.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kinds = {
            stat.S_IFDIR: "folder", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket",
            stat.S_IFCHR: "device", stat.S_IFBLK: "device",
        }  # fmt: skip
        kind = kinds.get(stat.S_IFMT(mode), "special file")
        raise UserError(f"{path} must be a regular file, got a {kind}; replace it or give another path")
    return Path(path)


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Give another name, beside ``path``, to write to; rename it when the block is through.

    A block that fails leaves nothing behind, and a file that stood there before as it was.

    Raises:
        UserError: the system refuses: a full disk, a folder that may not be written or does not exist.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with told_of(path):
            yield unfinished
            os.replace(unfinished, path)
    finally:
        if not unfinished.is_dir():
            unfinished.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text, whole or not at all.

    Raises:
        UserError: the system refuses.
    """
    with whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextmanager
def staged(path: str | Path) -> Iterator[Path]:
    """Give the same name in a folder of its own, for what is a folder or several files; then move all of it.

    Whatever the block leaves beside the path it was given moves beside ``path``, which comes last, so that
    where it is, the others are. A block that fails leaves nothing behind, and what stood there as it was.

    Raises:
        UserError: the system refuses, or a folder stands where a file is to be.
    """
    path = Path(path)
    with told_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield folder / path.name
        with told_of(path):
            for entry in sorted(folder.iterdir(), key=lambda entry: entry.name == path.name):
                move(entry, path.with_name(entry.name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move(entry: Path, target: Path) -> None:
    """Put a file or folder in the place of another one.

    Raises:
        UserError: it would replace a folder by a file.
    """
    if target.is_dir():
        if not entry.is_dir():
            raise UserError(f"{target} must be a file or not be there, got a folder; choose another place")
        # A folder is not replaced by renaming: the old one goes aside, and with what was staged.
        os.replace(target, entry.with_name(f"{entry.name}.before"))
    os.replace(entry, target)


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Tell a refusal of the system in one line.

    Raises:
        UserError: it refuses.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} must be writable, but {error.strerror or error}; make room or choose another place"
        ) from error
