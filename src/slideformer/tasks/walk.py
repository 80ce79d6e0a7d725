# SPDX-License-Identifier: Apache-2.0
"""Files below a folder, with links to other places followed and links that lead back reported."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path

from slideformer.errors import printable

NOT_FOLLOWED = "the link {} leads to {}, which holds it or is read already; it is not followed"


def files_below(folder: Path, others: Collection[str] = ()) -> Iterator[str]:
    """Files anywhere below a folder, in the order of their names; what is hidden is left out.

    Links to other places are followed. A link to a folder that holds the link or was read already is
    reported and not followed; so is one into another one of a group of folders.

    Args:
        folder: where to begin.
        others: real paths of the folders of its group, whose files are not its own.
    """
    top = os.path.realpath(folder)
    taken = set(others) - {top}
    real_folder = cache(os.path.realpath)  # asked for once for each of many links into it
    seen, waiting = {top}, [str(folder)]
    while waiting:
        place = waiting.pop()
        folders = []
        for entry in visible(place):
            target = os.path.realpath(entry.path) if is_folder(entry) else ""
            if not target:
                linked = taken and entry.is_symlink()
                if linked and leads_into(real_folder(linked_folder(entry.path)), taken):
                    report(f"the link {entry.path} leads to a file of another class; it is left out")
                else:
                    yield entry.path
            elif entry.is_symlink() and (
                target in seen
                or leads_into(target, taken)
                or holds(target, (top, place_of(folder), os.path.realpath(place), *taken))
            ):
                report(NOT_FOLLOWED.format(entry.path, target))
            elif target not in seen:
                seen.add(target)
                folders.append(entry.path)
        waiting += reversed(folders)


def folders_of(folder: Path) -> list[Path]:
    """The folders in a folder, by name; not what is hidden, nor links that lead back or to one of them."""
    entries = [entry for entry in visible(str(folder)) if is_folder(entry)]
    taken = {os.path.realpath(entry.path) for entry in entries if not entry.is_symlink()}
    kept = []
    for entry in entries:
        target = os.path.realpath(entry.path)
        if entry.is_symlink() and (holds(target, [os.path.realpath(folder)]) or leads_into(target, taken)):
            report(NOT_FOLLOWED.format(entry.path, target))
        else:
            taken.add(target)
            kept.append(folder / entry.name)
    return kept


def visible(folder: str) -> list[os.DirEntry[str]]:
    """What a folder holds, by name, without what is hidden; nothing, with a warning, if it is unreadable."""
    try:
        with os.scandir(folder) as entries:
            return sorted((x for x in entries if not x.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        report(f"the folder {folder} cannot be read ({error.strerror}); it is left out")
        return []


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link that cannot be followed is not."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def linked_folder(link: str) -> str:
    """The folder in which the target of a link lies."""
    return os.path.dirname(os.path.join(os.path.dirname(link), os.readlink(link)))


def place_of(folder: Path) -> str:
    """Where a folder, or the link to it, lies, by the real path of what holds it."""
    path = os.path.abspath(folder)
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def holds(folder: str, paths: Iterable[str]) -> bool:
    """Whether a real folder is one of some real paths or holds one."""
    return any(os.path.commonpath((folder, path)) == folder for path in paths)


def leads_into(path: str, folders: set[str]) -> bool:
    """Whether a real path is one of some real folders or lies in one."""
    return not folders.isdisjoint((path, *map(str, Path(path).parents)))


@cache
def report(warning: str) -> None:
    """Tell a warning on standard error, once in a process."""
    print(f"warning: {printable(warning)}", file=sys.stderr, flush=True)
