# SPDX-License-Identifier: Apache-2.0
"""`slideformer train`: Lightning's command line, in our words."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from slideformer.cli import tasks


def run_words(words: Sequence[str]) -> int:
    """Train; the words are parsed by Lightning."""
    try:
        from slideformer.tasks.training.command_line import task_of
        from slideformer.tasks.training.fit import fit
    except ImportError as error:
        raise tasks.missing("classify", error) from error
    named = bool(words) and not words[0].startswith("-")
    name = words[0] if named else task_of(words)
    words = words[1:] if named else words
    task = tasks.find(name)
    try:
        row = task.training()
        if {"-h", "--help"} & set(words):
            print(task.examples())
        # A scheduler's polite kill is told like Ctrl-C: the last whole epoch is kept.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        fit(row, words)
    except ImportError as error:
        raise tasks.missing(name, error) from error
    return 0
