# SPDX-License-Identifier: Apache-2.0
"""Names of files and classes reach the terminal as one harmless line, and programs exactly."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import timm
from PIL import Image

from slideformer.cli.main import main
from slideformer.tasks.scenes.generate import generate
from tests.saved import save_classifier

STRANGE = os.fsdecode(b"\x1b[31m\xff\n.png")
SHOWN = r"\x1b[31m\udcff\n.png"
CLASSES = ("cat\x1b[2J", "dog\n")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier whose classes have names that no terminal should get."""
    run = tmp_path_factory.mktemp("runs") / "strange"
    save_classifier(timm.create_model("slide_swin_nano", num_classes=2), run, class_names=list(CLASSES))
    return run


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder for each class, with an image and a file that is none, of a strange name."""
    for name in CLASSES:
        folder = tmp_path / "data" / "val" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (32, 32), "teal").save(folder / STRANGE)
        (folder / f"broken{STRANGE}").write_bytes(b"no image")
    return tmp_path / "data"


def harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def test_predict_prints_a_line_an_image(
    trained: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(trained), str(images / "val" / CLASSES[0])]) == 0
    told = capsys.readouterr()
    assert harmless(told.out)
    assert harmless(told.err)
    assert told.out.count("\n") == 1
    assert rf"cat\x1b[2J/{SHOWN}  " in told.out
    assert rf"left out, unreadable: {images}/val/cat\x1b[2J/broken{SHOWN} (" in told.err


def test_predict_gives_programs_the_names_themselves(
    trained: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(trained), str(images), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {Path(row["path"]).name for row in rows} == {STRANGE, f"broken{STRANGE}"}
    assert {row["name"] for found in rows for row in found.get("classes", ())} == set(CLASSES)


def test_evaluate_prints_a_line_a_class(
    trained: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(trained), "--data", str(images)]) == 0
    told = capsys.readouterr().out
    assert harmless(told)
    assert told.splitlines()[1].startswith(r"cat\x1b[2J  ")
    written = json.loads((trained / "evaluation.json").read_text(encoding="utf-8"))
    assert {Path(path).name for path in written["unreadable"]} == {f"broken{STRANGE}"}


def test_check_data_prints_a_line_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = generate(tmp_path / "set", train=1, val=1, size=48)
    (scenes / "train" / f"more{STRANGE}").write_bytes(b"no image")
    (scenes / "classes.txt").write_text("a\nb\nc\nd\ne\nf\x1b[31m\n", encoding="utf-8")
    assert main(["check-data", "segment", str(scenes)]) == 1
    told = capsys.readouterr().out
    assert harmless(told)
    assert f"train/more{SHOWN} must have a label map" in told
