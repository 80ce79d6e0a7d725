# SPDX-License-Identifier: Apache-2.0
"""The error that the command shows as one line."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake of the person at the keyboard, told in one line: what must hold, what came, what to do.

    The command prints the message without a traceback and exits with code 2. Every other exception is a bug
    of ours and keeps its traceback.
    """


def printable(text: object) -> str:
    """Text that is one line and harmless to a terminal, whatever names and file contents it quotes.

    Control characters (line breaks, escape sequences) and bytes of file names that are not text come as
    backslash escapes.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
