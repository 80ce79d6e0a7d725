# SPDX-License-Identifier: Apache-2.0
"""Checks a training that cannot begin."""

from __future__ import annotations

import pytest

from slideformer.cli.main import main


def mistake(words: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    """The line that a command line is answered with."""
    assert main(["train", *map(str, words)]) == 2
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]
