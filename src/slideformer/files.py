# SPDX-License-Identifier: Apache-2.0
"""Files: reading none that would block, writing them completely or not at all."""

from __future__ import annotations

import errno
import itertools
import os
import platform
import shutil
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from slideformer.errors import UserError

try:
    import fcntl
except ImportError:  # on Windows, where what a killed process leaves stays, and runs are not locked
    fcntl = None  # type: ignore[assignment]


def regular_file(path: str | Path) -> Path:
    """The path itself, if it is that of a regular file or of a link to one.

    A FIFO, socket or device would block whoever opens it. Everything that is opened by a path that a
    folder or a user names goes through here.
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


def read_text(path: str | Path, *, most: int = 1 << 24) -> str:
    """The text of a small file.

    Args:
        path: of a regular file.
        most: bytes that it may have.

    Raises:
        FileNotFoundError: nothing exists at that path.
        UserError: it is not a regular file, is larger, or is not UTF-8.
    """
    with regular_file(path).open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise UserError(f"{path} must have at most {most} bytes, got more; check which file it is")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} must be text in UTF-8, got other bytes; save it as UTF-8") from error


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a hidden path of the same file system to write to, and rename it when the block ends.

    A block that fails leaves nothing behind, and an earlier file unchanged.
    """
    path = Path(path)
    with staging(path) as folder, writing_to(path):
        yield folder / path.name
        os.replace(folder / path.name, path)


def write_text(path: str | Path, text: str) -> None:
    """Write a text, completely or not at all."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextmanager
def staged(path: str | Path) -> Iterator[Path]:
    """Give the same name in a folder of its own, for what is a folder or several files; then move all of it.

    Whatever the block leaves next to the path it was given moves next to ``path``, which comes last, so that
    where it is, the others are. A block that fails leaves nothing behind, and earlier files unchanged.
    """
    path = Path(path)
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with staging(path) as folder:
        yield folder / path.name
        with writing_to(path):
            entries = sorted(folder.iterdir(), key=lambda entry: entry.name == path.name)
            for entry in entries:
                check_kind(entry, path.with_name(entry.name))
            for entry in entries:
                move(entry, path.with_name(entry.name))


@contextmanager
def staging(path: Path) -> Iterator[Path]:
    """Give an empty hidden folder with ``path`` that is this block's alone, and remove it in the end.

    One that a killed process left is removed first; a running process holds a lock on its own.
    """
    with writing_to(path):
        folder, lock = claim_folder(path)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def claim_folder(path: Path) -> tuple[Path, int | None]:
    """Create a hidden folder with ``path``; with the handle of its lock, where folders can be locked."""
    for number in itertools.count(1):
        folder = path.with_name(f".{path.name}.unfinished{number if number > 1 else ''}")
        remove_dead(folder)
        try:
            folder.mkdir()
            lock = lock_folder(folder, fcntl.LOCK_EX) if fcntl else None
        except (FileExistsError, FileNotFoundError):
            # A running process holds it, or has just taken it for that of a killed one and removed it.
            if not path.parent.is_dir():
                raise
            continue
        if lock is None or same_file(folder, lock):
            return folder, lock
        os.close(lock)
    raise AssertionError("there is a last number")


def remove_dead(folder: Path) -> None:
    """Remove a hidden folder that no process holds any more; leave one that cannot be locked."""
    with suppress(OSError):
        lock = lock_folder(folder, fcntl.LOCK_EX | fcntl.LOCK_NB) if fcntl else None
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def lock_folder(folder: Path, kind: int) -> int | None:
    """The handle of a folder that is now locked; None where it cannot be."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, kind)
    except OSError:  # held by another, or a file system without locks
        os.close(handle)
        return None
    return handle


def same_file(path: Path, handle: int) -> bool:
    """Whether a name still is that of an open file or folder."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def check_kind(entry: Path, target: Path) -> None:
    """Check that a file does not take the place of a folder."""
    if target.is_dir() and not entry.is_dir():
        raise UserError(f"{target} must be a file or not be there, got a folder; choose another place")


def move(entry: Path, target: Path) -> None:
    """Put a file or folder in the place of another one."""
    if not target.is_dir():
        os.replace(entry, target)
        return
    # A folder is not replaced by renaming: the old one goes aside, and with what was staged.
    before = entry.with_name(f"{entry.name}.before")
    os.replace(target, before)
    try:
        os.replace(entry, target)
    except OSError:
        os.replace(before, target)
        raise


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Report an error of the system in one line."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} must be writable, but {error.strerror or error}; make room or choose another place"
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, with the name of this process in it, as long as the block runs or the process lives.

    Without locks, as on Windows, there is no such file.
    """
    if not fcntl:
        yield
        return
    with writing_to(path):
        file = lock_file(path)
    with file:
        try:
            with writing_to(path):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {platform.node()}")
                file.flush()
            yield
        finally:
            path.unlink(missing_ok=True)


def lock_file(path: Path) -> TextIO:
    """A lock file that is open and locked, where the file system can."""
    while True:
        if path.exists():
            regular_file(path)
        file = path.open("a+", encoding="utf-8", errors="replace")
        try:
            # Of a process alone: those that it starts, as to read images, do not keep it when it is killed.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                file.seek(0)
                holder = file.read(200) or "another process"
                file.close()
                raise UserError(
                    f"{path.parent} is in use by {holder}; let it finish, stop it, or choose another folder"
                ) from error
            warnings.warn(
                f"{path} cannot be locked ({error.strerror}); start no second run there", stacklevel=2
            )
        if same_file(path, file.fileno()):
            return file
        file.close()
