# SPDX-License-Identifier: Apache-2.0
"""The error that a command shows as one line."""

from __future__ import annotations

from math import inf


class UserError(ValueError):
    """A mistake of the person at the keyboard, told in one line: what must hold, what came, what to do.

    The command line prints the message without a traceback and exits with code 2. Every other
    exception is a bug of ours and keeps its traceback.
    """


def printable(text: object) -> str:
    """Text that is one line and harmless to a terminal, whatever names and file contents it quotes.

    Control characters (line breaks, escape sequences) and bytes of file names that are not text come as
    backslash escapes.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def check_range(option: str, value: float | None, low: float, high: float = inf) -> None:
    """Refuse a number out of its range; None, where a number is optional, is in every range.

    Raises:
        UserError: it is below ``low`` or above ``high``, infinite, or not a number.
    """
    if value is not None and not (low <= value <= high and value < inf):
        least = "finite and at least" if value == inf else "at least"
        bounds = f"{least} {low:g}" if high == inf else f"from {low:g} to {high:g}"
        raise UserError(f"{option} must be {bounds}, got {value}")
