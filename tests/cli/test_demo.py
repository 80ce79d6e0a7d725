# SPDX-License-Identifier: Apache-2.0
"""The demo goes the whole way and touches nobody else's files."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from slideformer.cli.main import main

LEFT = ("curves.png", "predictions.png", "attention.png", "confusion.png")


@pytest.mark.slow
def test_a_short_demo_leaves_everything_and_can_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo"
    for _ in range(2):
        assert main(["demo", "--output", str(folder), "--epochs", "1"]) == 0
    out = capsys.readouterr().out
    for words in (
        "accuracy on 360 held-out digits",
        "training",
        "parameters, merged",
        "merging changes",
        "exporting",
    ):
        assert words in out
    for name in LEFT:
        with Image.open(folder / name) as image:
            image.load()
    assert {"model.onnx", "model.safetensors", "config.json", "evaluation.json", "metrics.csv"} <= {
        path.name for path in folder.iterdir()
    }


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["demo", "--output", str(tmp_path)]) == 2
    assert "must be empty or an earlier demo's" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
