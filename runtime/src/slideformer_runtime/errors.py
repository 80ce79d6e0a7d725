# SPDX-License-Identifier: Apache-2.0
"""The error that the command shows as one line."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake of the person at the keyboard, told in one line: what must hold, what came, what to do.

    The command prints the message without a traceback and exits with code 2. Every other exception is a bug
    of ours and keeps its traceback.
    """
