# SPDX-License-Identifier: Apache-2.0
"""Files below a folder, with links to other places followed and links that lead back reported."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

from slideformer.errors import printable

NOT_FOLLOWED = "the link {} leads to {}, which contains it or is already read; it is not followed"


def files_below(folder: Path, others: Collection[str] = ()) -> Iterator[str]:
    """List files anywhere below a folder, in the order of their names; what is hidden is left out.

    Links to other places are followed. A link to a folder that contains the link or was already read is
    reported and not followed; so is a folder or link that leads into another folder of a group. Where
    folders of the group are nested, a file belongs to the innermost.

    Args:
        folder: where to begin.
        others: real paths of the folders of its group, whose files do not belong to it.
    """
    top = os.path.realpath(folder)
    homes = {*others, top}
    real_folder = cache(os.path.realpath)  # once for many links into one folder
    seen, waiting = {top}, [str(folder)]
    while waiting:
        place = waiting.pop()
        folders = []
        for entry in visible(place):
            target = os.path.realpath(entry.path) if is_folder(entry) else ""
            if not target:
                linked = others and entry.is_symlink()
                if linked and home_of(real_folder(linked_folder(entry.path)), homes) not in (None, top):
                    report(f"the link {entry.path} leads to a file of another class; it is left out")
                else:
                    yield entry.path
            elif home_of(target, homes) not in (None, top):
                kind = "link" if entry.is_symlink() else "folder"
                report(f"the {kind} {entry.path} leads into another class, to {target}; it is left out")
            elif entry.is_symlink() and (
                target in seen
                or contains(target, top)
                or contains(target, place_of(folder))
                or contains(target, os.path.realpath(place))
            ):
                report(NOT_FOLLOWED.format(entry.path, target))
            elif target not in seen:
                seen.add(target)
                folders.append(entry.path)
        waiting += reversed(folders)


def folders_of(folder: Path) -> list[Path]:
    """List the folders in a folder, by name.

    What is hidden is left out, and so are links that lead back or to another one of the folders.
    """
    entries = [entry for entry in visible(str(folder)) if is_folder(entry)]
    taken = {os.path.realpath(entry.path) for entry in entries if not entry.is_symlink()}
    kept = []
    for entry in entries:
        target = os.path.realpath(entry.path)
        if entry.is_symlink() and (target in taken or contains(target, os.path.realpath(folder))):
            report(NOT_FOLLOWED.format(entry.path, target))
        else:
            taken.add(target)
            kept.append(folder / entry.name)
    return kept


def visible(folder: str) -> list[os.DirEntry[str]]:
    """List the entries of a folder by name, without hidden ones; none, with a warning, if unreadable."""
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
    """Return the folder that contains the target of a link."""
    return os.path.dirname(os.path.join(os.path.dirname(link), os.readlink(link)))


def place_of(folder: Path) -> str:
    """Return the path of a folder, or of the link to it, with all links above it resolved."""
    path = os.path.abspath(folder)
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def home_of(path: str, folders: Collection[str]) -> str | None:
    """Return the innermost of some real folders that is a real path or contains it; None if none does."""
    return next((place for place in (path, *map(str, Path(path).parents)) if place in folders), None)


def contains(folder: str, path: str) -> bool:
    """Whether a real folder is a real path or contains it."""
    return home_of(path, (folder,)) is not None


@cache
def report(warning: str) -> None:
    """Print a warning on standard error, once in a process."""
    print(f"warning: {printable(warning)}", file=sys.stderr, flush=True)
