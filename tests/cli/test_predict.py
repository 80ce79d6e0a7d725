# SPDX-License-Identifier: Apache-2.0
"""`slideformer predict` on folders: answers in a file, continued after an interruption, and progress."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slideformer.cli.main import main
from slideformer.console import counted
from slideformer.runs import save_run
from slideformer.tasks import predict as module
from slideformer.tasks.results import Result
from tests.dense.small_detectors import CLASSES, small_run

NAMES = ("ant", "bee", "cat")


@pytest.fixture
def many(all_photos: Path, tmp_path: Path) -> Path:
    """A hundred photos."""
    (tmp_path / "many").mkdir()
    source = next((all_photos / "val").rglob("*.jpg"))
    for number in range(100):
        shutil.copy(source, tmp_path / "many" / f"{number:03}.jpg")
    return tmp_path / "many"


def command(*words: object) -> int:
    return main([str(word) for word in words])


def paths_in(file: Path) -> list[str]:
    """Of the complete lines, all of which must be JSON."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line)["path"] for line in lines if line.endswith("\n")]


def test_answers_go_into_a_file_line_by_line(
    finished_run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "val" / "kiwi" / "0.jpg").write_text("no image")
    file = tmp_path / "deep" / "found.csv"
    assert command("predict", finished_run, photos / "val", "--top", 2, "--output", file) == 0
    captured = capsys.readouterr()
    assert captured.out == f"written: 9 of 9 images in {file}\n"
    assert "left out, unreadable:" in captured.err
    head, *rows = csv.reader(io.StringIO(file.read_text(encoding="utf-8"), newline=""))
    assert head == ["path", "error", "class_1", "probability_1", "class_2", "probability_2"]
    assert [row[2] for row in rows if not row[1]] == [Path(row[0]).parent.name for row in rows if not row[1]]
    assert [Path(row[0]).name for row in rows if row[1]] == ["0.jpg"]
    assert command("predict", finished_run, photos / "val", "--output", file) == 2
    assert (
        "exists already; add --resume to continue it, or choose another --output" in capsys.readouterr().err
    )


def test_an_interrupted_prediction_says_how_to_go_on_and_goes_on(
    finished_run: Path,
    all_photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, file = tmp_path / "whole.jsonl", tmp_path / "found.jsonl"
    words = ("predict", finished_run, all_photos / "val", "--batch-size", 1, "--output")
    assert command(*words, whole) == 0

    def interrupted(results: Iterator[Result]) -> Iterator[Result]:
        for _ in range(4):
            yield next(results)
        raise KeyboardInterrupt

    real = module.results
    with monkeypatch.context() as patch:
        patch.setattr(module, "results", lambda *words: interrupted(real(*words)))
        assert command(*words, file) == 130
    assert paths_in(file) == paths_in(whole)[:4]
    message = f"interrupted; 4 of 9 images in {file}; the same command with --resume goes on\n"
    assert capsys.readouterr().err == message
    assert command(*words, file, "--resume") == 0
    assert file.read_bytes() == whole.read_bytes()
    assert command(*words, file, "--resume") == 0
    assert capsys.readouterr().out == f"written: 9 of 9 images in {file}\n" * 2


@pytest.mark.slow
def test_a_killed_prediction_has_complete_lines_and_is_continued(
    finished_run: Path, many: Path, tmp_path: Path
) -> None:
    file = tmp_path / "found.jsonl"
    words = ("predict", finished_run, many, "--batch-size", 2, "--workers", 1, "--output", file)
    program = [sys.executable, "-m", "slideformer", *map(str, words)]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until and not (file.exists() and file.stat().st_size):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    known = paths_in(file)
    assert 0 < len(known) < 100
    assert command(*words, "--resume") == 0
    assert paths_in(file) == [str(path) for path in sorted(many.iterdir())]
    assert paths_in(file)[: len(known)] == known


def test_objects_are_the_same_when_a_file_is_continued_with_more_images(
    all_photos: Path, tmp_path: Path
) -> None:
    run = replace(small_run("retinanet"), class_names=NAMES)
    assert len(NAMES) == CLASSES
    save_run(run, tmp_path / "run")
    images = sorted((all_photos / "val").rglob("*.jpg"))[:3]
    whole, file = tmp_path / "whole.jsonl", tmp_path / "found.jsonl"
    assert command("predict", tmp_path / "run", *images, "--score", 0, "--output", whole) == 0
    assert command("predict", tmp_path / "run", images[1], "--score", 0, "--output", file) == 0
    assert command("predict", tmp_path / "run", *images, "--score", 0, "--output", file, "--resume") == 0
    lines = whole.read_bytes().splitlines()
    assert file.read_bytes().splitlines() == [lines[1], lines[0], lines[2]]
    assert not (tmp_path / "run" / "predictions").exists()


def test_unreadable_images_in_a_continued_file_count(
    finished_run: Path, all_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, file = tmp_path / "bad.jpg", tmp_path / "found.csv"
    bad.write_text("no image")
    words = ("predict", finished_run, bad, "--output", file)
    assert command(*words) == 2
    assert command(*words, "--resume") == 2
    message = "there must be an image that can be read, got 1 unreadable ones"
    assert capsys.readouterr().err.count(message) == 2
    good = next((all_photos / "val").rglob("*.jpg"))
    assert command("predict", finished_run, bad, good, "--output", file, "--resume") == 0
    captured = capsys.readouterr()
    assert captured.err == "1 of 2 images were unreadable\n"
    assert captured.out == f"written: 2 of 2 images in {file}\n"


def test_a_name_of_another_kind_of_file_becomes_no_folder(
    finished_run: Path, all_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, output = next((all_photos / "val").rglob("*.jpg")), tmp_path / "found.json"
    assert command("predict", finished_run, image, "--output", output) == 2
    message = f"--output must be a file ending in .jsonl or .csv, or a folder, got {output}; for a folder"
    assert message in capsys.readouterr().err
    assert not output.exists()
    output.mkdir()
    assert command("predict", finished_run, image, "--output", output) == 0
    assert len(list(output.iterdir())) == 1


def test_resume_needs_a_file(
    finished_run: Path, all_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("predict", finished_run, all_photos, "--resume") == 2
    assert "--resume continues an --output file ending in .jsonl or .csv, got None" in capsys.readouterr().err


def test_progress_is_shown_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moments = iter([10.0, 12.0, 12.01, 14.0, 20.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    show = counted("images")
    for done in (10, 50, 51, 90, 100):
        show(done, 100)
    lines = [line for line in capsys.readouterr().err.split("\r\033[K") if line]
    assert lines == [
        "10 of 100 images",
        "50 of 100 images, 20.0 a second, 0:02 left",
        "90 of 100 images, 20.0 a second, 0:00 left",
    ]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    moments = iter([10.0, 12.0])
    show = counted("images")
    show(1, 3)
    show(2, 3)
    assert capsys.readouterr().err == ""
