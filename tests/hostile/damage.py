# SPDX-License-Identifier: Apache-2.0
"""Ways to spoil a value, a text, a file or a path, each drawn by a seed."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
from pathlib import Path
from typing import Any

NAN, INFINITE = float("nan"), float("inf")
SCALARS = (None, True, -1, 0, 1e-9, 1e308, NAN, INFINITE, 10**30, 100_000, "evil", "", "a\x1b[31m\nb", "0.5")
LISTS = ([], [[]], [NAN] * 3, [0, 0, 0], [1], ["x"] * 3, [100_000] * 3)
VALUES: tuple[Any, ...] = (*SCALARS, *LISTS, {}, {"a": {"b": None}})
TEXTS = (b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe\x00", b"null", b"9" * 10_000, b"\xef\xbb\xbf{}")


def bytes_of(draw: random.Random, data: bytes) -> bytes:
    """Bytes with a part lost, repeated, overwritten or turned into noise."""
    if not data:
        return draw.randbytes(9)
    at, length = draw.randrange(len(data)), draw.choice((1, 4, 64, len(data)))
    return draw.choice(
        (
            data[:at],
            data[:at] + data[at + length :],
            data[:at] + draw.randbytes(length) + data[at + length :],
            data[:at] + data[:length] + data[at:],
            draw.randbytes(len(data) % 5000),
            b"",
        )
    )


def irregular(draw: random.Random, path: Path) -> None:
    """Put something that is not a regular file in the place of a path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    kind = draw.choice(("FIFO", "folder", "broken link", "device", "link to a FIFO", "socket"))
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "broken link":
        path.symlink_to(path.with_name("nowhere"))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "link to a FIFO":
        fifo = path.with_name(f"{path.name}-fifo")
        os.mkfifo(fifo)
        path.symlink_to(fifo)
    else:
        before = Path.cwd()
        os.chdir(path.parent)  # the name of a socket may only have some 100 bytes
        try:
            with socket.socket(socket.AF_UNIX) as end:
                end.bind(path.name)
        finally:
            os.chdir(before)


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside nested dictionaries and the first entries of lists."""
    entries: Any = ()
    if isinstance(content, dict):
        entries = content.items()
    elif isinstance(content, list):
        entries = enumerate(content[:3])
    below = [place for key, x in entries for place in places(x, (*path, key))]
    return [path, *below] if path else below


def value(draw: random.Random, content: Any) -> None:
    """Put a hostile value in some place, or take the place away."""
    *parents, last = draw.choice(places(content))
    for key in parents:
        content = content[key]
    if draw.random() < 0.2:
        del content[last]
    else:
        content[last] = draw.choice(VALUES)


def json_file(draw: random.Random, file: Path) -> None:
    """Change a JSON file: its values, its bytes or all of it."""
    kind = draw.random()
    if kind < 0.7:
        content = json.loads(file.read_text())
        value(draw, content)
        file.write_text(json.dumps(content))
    elif kind < 0.85:
        file.write_bytes(bytes_of(draw, file.read_bytes()))
    else:
        file.write_bytes(draw.choice(TEXTS))
