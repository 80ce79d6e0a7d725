# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slideformer.errors import UserError


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
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:
        raise UserError(
            f"{path} must be writable, but {error.strerror or error}; make room or choose another place"
        ) from error
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
