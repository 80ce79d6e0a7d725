# SPDX-License-Identifier: Apache-2.0
"""Names of files without the folders of the machine that they are on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def shareable(text: str) -> str:
    """The last name of a path that exists, is absolute or leads out of its folder; other text as it is.

    What is before a colon, as in ``host:runs/plain``, stays, and so does a kind of source before an absolute
    path, as in ``hfds//home/me/photos``.
    """
    path = Path(text)
    if text and (text.startswith("~") or path.is_absolute() or ".." in path.parts or os.path.lexists(path)):
        return Path(os.path.abspath(path)).name or "data"
    kind, slash, rest = text.partition("/")
    if slash and Path(rest).is_absolute():
        return f"{kind}/{shareable(rest)}"
    kind, colon, rest = text.partition(":")
    if colon and len(kind) > 1:  # one letter is a drive
        return f"{kind}:{shareable(rest)}"
    return text


def shareable_value(value: Any) -> Any:
    """A plain value whose texts, however deep, are `shareable`."""
    if isinstance(value, str):
        return shareable(value)
    if isinstance(value, dict):
        return {key: shareable_value(x) for key, x in value.items()}
    return [shareable_value(x) for x in value] if isinstance(value, list) else value
