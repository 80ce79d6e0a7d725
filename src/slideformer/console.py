# SPDX-License-Identifier: Apache-2.0
"""Printing for people, whatever the names in a line hold."""

from __future__ import annotations

import io
import sys

from slideformer.errors import printable


def print_line(text: object, *, to_stderr: bool = False) -> None:
    """Print one line at once; what is no part of a line, in the names that it quotes, comes as an escape."""
    print(printable(text), file=sys.stderr if to_stderr else sys.stdout, flush=True)


def accept_any_text() -> None:
    """Let characters that the terminal's encoding lacks come as escapes, rather than end the command."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # standard error does so by itself
        sys.stdout.reconfigure(errors="backslashreplace")
