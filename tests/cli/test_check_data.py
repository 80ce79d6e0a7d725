# SPDX-License-Identifier: Apache-2.0
"""The verb that looks for mistakes in data."""

from __future__ import annotations

from pathlib import Path

import pytest

from slideformer.cli.main import main
from slideformer.tasks.scenes.generate import generate


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return generate(tmp_path / "set", train=2, val=1, size=48)


def test_good_data_are_ready(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data", "detect", str(scenes)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("train: 2 pictures (0 without an object), ")
    assert lines[-1] == "errors: 0; ready for a training"


def test_data_with_an_error_give_code_1(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scenes / "train" / "000002.jpg").unlink()
    assert main(["check-data", "detect", str(scenes)]) == 1
    out = capsys.readouterr().out
    assert "error: pictures that are not there: 1\n  " in out
    assert "000002.jpg" in out
    assert out.endswith("errors: 1; mend them before a training\n")


def test_options_of_detection_go_with_detection(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data", "segment", str(scenes), "--no-masks"]) == 2
    assert "options of detect must go with detect, got with_masks with segment" in capsys.readouterr().err
