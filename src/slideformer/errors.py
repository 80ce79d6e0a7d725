# SPDX-License-Identifier: Apache-2.0
"""The error that a command shows as one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import inf
from unicodedata import category

# An argument in a message of the library, such as `batch_size` or `augment.scale`.
ARGUMENT = re.compile(r"`([a-z_]+(?:\.[a-z_]+)?)`")


class UserError(ValueError):
    """A mistake of the user, in one line: what must hold, what came, what to do.

    The command line prints the message without a traceback and exits with code 2. Every other
    exception is a bug of ours and keeps its traceback.
    """


def printable(text: object) -> str:
    """Text that is one line and harmless to a terminal, whatever names and file contents it quotes.

    Control characters (line breaks, escape sequences, changes of direction) and bytes of file names that
    are not text come as backslash escapes; all other text stays as it is.
    """
    return "".join(c.encode("unicode_escape").decode() if controls(c) else c for c in str(text))


def controls(character: str) -> bool:
    """Return whether a character is not text, or changes how the following text is shown.

    The two joiners are formatting in name only: words of Persian and many emoji are written with them.
    """
    return category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in "\u200c\u200d"


def name_options(message: str, options: Mapping[str, str]) -> str:
    """Replace the arguments in a message of the library by the options of a command.

    Args:
        message: which names an argument between backticks.
        options: argument -> option, such as ``--batch-size``; other arguments stay.
    """
    return ARGUMENT.sub(lambda match: options.get(match[1], match[0]), message)


@contextmanager
def naming(options: Mapping[str, str]) -> Iterator[None]:
    """Replace arguments in the user's errors that leave the block, see `name_options`."""
    try:
        yield
    except UserError as error:
        error.args = (name_options(str(error), options),)
        raise


def check_range(option: str, value: float | None, low: float, high: float = inf) -> None:
    """Check that a number is in its range; None, where a number is optional, is in every range."""
    if value is not None and not (low <= value <= high and value < inf):
        least = "finite and at least" if value == inf else "at least"
        bounds = f"{least} {low:g}" if high == inf else f"from {low:g} to {high:g}"
        raise UserError(f"{option} must be {bounds}, got {value}")
