# SPDX-License-Identifier: Apache-2.0
"""The verb that writes scenes."""

from __future__ import annotations

from pathlib import Path

import pytest

from slideformer.cli.main import main


def test_scenes_are_written_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "set"
    assert main(["scenes", str(folder), "--train", "2", "--val", "1", "--size", "48"]) == 0
    assert capsys.readouterr().out == (
        "2 images to train on, 1 held out, 48 x 48 pixels, classes disc, ring, square, triangle, star: "
        f"{folder}\n"
    )
    assert len(list((folder / "train").iterdir())) == 2
