# SPDX-License-Identifier: Apache-2.0
"""Printing: lines that quote any name, and progress on a terminal."""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Callable

from slideformer.errors import printable

# Seconds from one line of progress to the next: a terminal is slower than a GPU.
REDRAWN = 0.1
# Whether a line of progress is on the terminal.
shown = False


def print_line(text: object, *, to_stderr: bool = False) -> None:
    """Print one line at once; names that it quotes are printed as escapes where they are not printable."""
    progress("")
    print(printable(text), file=sys.stderr if to_stderr else sys.stdout, flush=True)


def accept_any_text() -> None:
    """Let characters that the terminal's encoding lacks come as escapes, rather than end the command."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # standard error does so by itself
        sys.stdout.reconfigure(errors="backslashreplace")


def progress(words: str) -> None:
    """Show on a terminal what is being done, on one line, in place of the words before; "" clears them."""
    global shown
    if (words or shown) and sys.stderr.isatty():
        line = printable(words)[: shutil.get_terminal_size().columns - 1]
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        shown = bool(words)


def counted(items: str) -> Callable[[int, int], None]:
    """A function that shows how many items are done, how many a second, and clears its line at the end."""
    first, begun, drawn = 0, 0.0, 0.0

    def show(done: int, total: int) -> None:
        nonlocal first, begun, drawn
        now = time.monotonic()
        if done >= total:
            progress("")
        elif not begun:
            first, begun = done, now
            progress(f"{done} of {total} {items}")
        elif now - drawn >= REDRAWN:
            drawn = now
            rate = (done - first) / (now - begun) if now > begun else 0.0
            speed = f", {rate:.1f} a second, {duration((total - done) / rate)} left" if rate else ""
            progress(f"{done} of {total} {items}{speed}")

    return show


def duration(seconds: float) -> str:
    """Minutes and seconds, as ``3:07``, or hours, minutes and seconds, as ``1:03:07``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
