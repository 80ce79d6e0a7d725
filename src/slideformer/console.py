# SPDX-License-Identifier: Apache-2.0
"""Printing: lines that quote any name, and progress on a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

from slideformer.errors import printable


def print_line(text: object, *, to_stderr: bool = False) -> None:
    """Print one line at once; names that it quotes are printed as escapes where they are not printable."""
    print(printable(text), file=sys.stderr if to_stderr else sys.stdout, flush=True)


def accept_any_text() -> None:
    """Let characters that the terminal's encoding lacks come as escapes, rather than end the command."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # standard error does so by itself
        sys.stdout.reconfigure(errors="backslashreplace")


def progress(words: str) -> None:
    """Show on a terminal what is being done, in place of the words before."""
    if sys.stderr.isatty():
        print(f"\r\033[K{printable(words)}", end="", file=sys.stderr, flush=True)


def counted(items: str) -> Callable[[int, int], None]:
    """A function that shows how many items are done, and clears its line at the end."""
    return lambda done, total: progress("" if done >= total else f"{done} of {total} {items}")
