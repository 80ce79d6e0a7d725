# SPDX-License-Identifier: Apache-2.0
"""Files below a folder, through links to other places, but not through links that lead back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path


def files_below(folder: str) -> Iterator[str]:
    """Yield the files anywhere below a folder, ordered by name, without hidden ones.

    Links to other places are followed; one to a folder that contains the link or was read already is reported
    and not followed.
    """
    top = os.path.realpath(folder)
    seen, waiting = {top}, [folder]
    while waiting:
        place = waiting.pop()
        folders = []
        for entry in visible(place):
            if not is_folder(entry):
                yield entry.path
                continue
            target = os.path.realpath(entry.path)
            around = map(Path, (top, unresolved(folder), os.path.realpath(place)))
            if entry.is_symlink() and (target in seen or any(path.is_relative_to(target) for path in around)):
                warn_once(
                    f"the link {entry.path!r} leads to {target!r}, which contains it or was read already; "
                    "it is not followed"
                )
            elif target not in seen:
                seen.add(target)
                folders.append(entry.path)
        waiting += reversed(folders)


def visible(folder: str) -> list[os.DirEntry[str]]:
    """Return the entries of a folder by name, without hidden ones; none, with a warning, if unreadable."""
    try:
        with os.scandir(folder) as entries:
            return sorted((x for x in entries if not x.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        warn_once(f"the folder {folder!r} cannot be read ({error.strerror}); it is left out")
        return []


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link that cannot be followed is not."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def unresolved(folder: str) -> str:
    """Return the path of a folder, or of the link to it, with all links above it resolved."""
    path = os.path.abspath(folder)
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


@cache
def warn_once(warning: str) -> None:
    """Print a warning on standard error, once in a process."""
    print(f"warning: {warning}", file=sys.stderr, flush=True)
