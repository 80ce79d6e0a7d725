# SPDX-License-Identifier: Apache-2.0
"""The verb that looks for mistakes in data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from slideformer.cli.main import main
from slideformer.tasks.scenes.generate import generate


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return generate(tmp_path / "set", train=2, val=1, size=48)


def test_good_data_are_ready(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data", "detect", str(scenes)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("train: 2 images (0 without an object), ")
    assert lines[-1] == "errors: 0; ready for a training"


def test_data_with_an_error_give_code_1(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scenes / "train" / "000002.jpg").unlink()
    assert main(["check-data", "detect", str(scenes)]) == 1
    out = capsys.readouterr().out
    assert "error: images that do not exist: 1\n  " in out
    assert "000002.jpg" in out
    assert "name the folder of images with --train-images" in out
    assert out.endswith("errors: 1; fix them before a training\n")


def test_options_of_detection_go_with_detection(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data", "segment", str(scenes), "--no-masks"]) == 2
    assert "--no-masks is an option of detect, got it with segment" in capsys.readouterr().err
    assert main(["check-data", "classify", str(scenes), "--orientation", "stored"]) == 2
    assert "--orientation is an option of detect and segment, got it with classify" in capsys.readouterr().err


def test_class_folders_are_checked_and_hints_name_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number, colour in enumerate(("red", "blue", "green")):
            Image.new("RGB", (8 + number, 8), colour).save(tmp_path / name / f"{number}.png")
    assert main(["check-data", "classify", str(tmp_path)]) == 1
    assert "hold a part of each class out with --val-fraction 0.2" in capsys.readouterr().out
    assert main(["check-data", "classify", str(tmp_path), "--val-fraction", "0.3"]) == 0
    printed = capsys.readouterr().out
    assert "train: 4 readable images, 2 each" in printed
    assert printed.endswith("errors: 0; ready for a training\n")
    assert main(["check-data", "classify", str(tmp_path), "--val-fraction", "2"]) == 2
    assert "--val-fraction must be from 0.001 to 0.999, got 2" in capsys.readouterr().err


def test_a_fifo_among_the_pictures_is_reported(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("train", "masks/train"):
        picture = next((scenes / folder).iterdir())
        picture.unlink()
        os.mkfifo(picture)
    assert main(["check-data", "segment", str(scenes)]) == 0
    assert "left out: unreadable images or label maps: " in capsys.readouterr().out
    assert main(["check-data", "detect", str(scenes)]) == 1
    assert "error: images that do not exist: 1" in capsys.readouterr().out


@pytest.mark.parametrize("file", ["annotations/instances_train.json", "classes.txt"])
def test_a_fifo_for_annotations_or_classes_is_an_error(
    file: str, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scenes / file).unlink()
    os.mkfifo(scenes / file)
    task = "segment" if file == "classes.txt" else "detect"
    assert main(["check-data", task, str(scenes)]) == 1
    assert Path(file).name in capsys.readouterr().out


def test_a_folder_that_does_not_exist_is_named_as_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for task in ("classify", "detect", "segment"):
        assert main(["check-data", task, "nowhere"]) != 0
        printed = "".join(capsys.readouterr())
        assert "DIR must be a folder, got nowhere, which does not exist; check the path" in printed
