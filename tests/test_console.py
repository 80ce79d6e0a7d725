# SPDX-License-Identifier: Apache-2.0
"""Whatever a name holds, a line is one line, and printing it ends nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from slideformer.console import print_line

LINES = {
    "plain": ("a b", "a b"),
    "letters of any language": ("ölbaum 松", "ölbaum 松"),
    "a line break": ("a\nb\r.png", r"a\nb\r.png"),
    "an escape sequence": ("\x1b]0;title\x07\x1b[2J", r"\x1b]0;title\x07\x1b[2J"),
    "an escape of 8 bits": ("\x9b31m", r"\x9b31m"),
    "bytes that are no text": (os.fsdecode(b"\xff.png"), r"\udcff.png"),
    "a turn of the writing": ("\u202egnp.exe", r"\u202egnp.exe"),
    "other line breaks": ("a\u2028b\x85c", r"a\u2028b\x85c"),
}


@pytest.mark.parametrize(("text", "printed"), LINES.values(), ids=LINES)
@pytest.mark.parametrize("to_stderr", [False, True], ids=["stdout", "stderr"])
def test_a_line_is_one_line(
    text: str, printed: str, to_stderr: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    print_line(text, to_stderr=to_stderr)
    streams = capsys.readouterr()
    assert (streams.err if to_stderr else streams.out) == printed + "\n"


def test_a_terminal_that_lacks_a_letter_gets_its_escape() -> None:
    script = "from slideformer.console import *; accept_any_text(); print_line('ölbaum')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "\\xf6lbaum\n")
