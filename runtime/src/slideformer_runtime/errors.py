# SPDX-License-Identifier: Apache-2.0
"""Errors that the command prints in one line."""

from __future__ import annotations

from unicodedata import category


class UserError(ValueError):
    """A mistake of the user in one line: what must hold, what came, what to do.

    The command prints it without a traceback and exits with code 2. Every other exception is a bug.
    """


def printable(text: object) -> str:
    """Return text as one line that is safe to print, whatever names and file contents it quotes.

    Control characters (line breaks, escape sequences, changes of direction) and bytes of file names that
    are not text become backslash escapes.
    """
    return "".join(c.encode("unicode_escape").decode() if controls(c) else c for c in str(text))


def controls(character: str) -> bool:
    """Whether a character is not text, or changes how the text after it is shown.

    The two joiners are formatting in name only: words of Persian and many emoji are written with them.
    """
    return category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in "\u200c\u200d"
