# SPDX-License-Identifier: Apache-2.0
"""Markdown around text of unknown origin, which must not change its structure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from slideformer.errors import printable

# What may begin code, emphasis, a link, a tag, an entity, a cell or mathematics. An underscore within a word
# begins nothing.
SPECIAL = re.compile(r"[\\`*\[\]<>#|~$&]|(?<![^\W_])_|_(?![^\W_])")


def escape(text: object) -> str:
    """Text that Markdown shows as it is, in one line."""
    # Two backslashes before a bracket begin mathematics on the Hub.
    return SPECIAL.sub(lambda match: "&#92;" if match[0] == "\\" else f"\\{match[0]}", printable(text))


def table(headings: tuple[str, str], rows: Iterable[tuple[object, object]]) -> str:
    """A table of two columns, in which all text is escaped."""
    lines = (f"| {escape(name)} | {escape(value)} |" for name, value in [headings, *rows])
    head, *body = lines
    return "\n".join([head, "|---|---|", *body])


def fenced(language: str, code: str) -> str:
    """A block of code, within a fence that the code does not have."""
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}{language}", *map(printable, code.split("\n")), fence])
