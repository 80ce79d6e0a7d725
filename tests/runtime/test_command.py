# SPDX-License-Identifier: Apache-2.0
"""The command prints one line for each image, and one for a mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slideformer_runtime.command import main

SOURCE = Path(__file__).parents[2] / "runtime" / "src"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE)}


def start(*words: object) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "slideformer_runtime", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        # A shell's background job, as a test run may be one, ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a red and a blue image, and a file that is not an image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (30, 20), (255, 0, 0)).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"not an image")
    Image.new("RGB", (30, 20), (0, 0, 255)).save(folder / "c.png")
    return folder


def test_one_line_for_each_image_and_each_that_was_left_out(
    models: dict[str, Path], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(models["classify"]), str(photos), "--top", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"{photos}/a.png  red 100.0 %", f"{photos}/c.png  blue 100.0 %"]
    first, last = err.splitlines()
    assert first.startswith(f"left out: {photos}/b.png (UnidentifiedImageError: ")
    assert last == "1 of 3 images were left out"


def test_programs_get_a_json_object_a_line(
    models: dict[str, Path], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(models["classify"]), str(photos), "--json"]) == 0
    first, second, third = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["path"] == f"{photos}/a.png"
    assert first["classes"][0]["name"] == "red"
    assert sum(row["probability"] for row in first["classes"]) == pytest.approx(1)
    assert second["error"].startswith("UnidentifiedImageError")
    assert third["classes"][0]["name"] == "blue"


def test_objects_are_counted_for_people_and_listed_for_programs(
    models: dict[str, Path], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(photos / "a.png")
    assert main([str(models["detect"]), image]) == 0
    assert capsys.readouterr().out == f"{image}  1 blue\n"
    assert main([str(models["detect"]), image, "--score", "0.95"]) == 0
    assert capsys.readouterr().out == f"{image}  nothing\n"
    assert main([str(models["detect"]), image, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["detections"]
    assert row == {"name": "blue", "category_id": 30, "score": pytest.approx(0.9), "bbox": [1, 2, 4, 6]}


def test_label_maps_are_written_with_numbers_and_colours(
    models: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "more").mkdir()
    Image.new("RGB", (9, 7), (0, 255, 0)).save(photos / "more" / "a.png")
    maps = tmp_path / "deep" / "maps"
    assert main([str(models["segment"]), str(photos), "--output", str(maps)]) == 0
    assert f"{photos}/a.png  red 100.0 %  -> {maps}/a_labels.png" in capsys.readouterr().out
    assert sorted(path.name for path in maps.iterdir()) == ["a-2_labels.png", "a_labels.png", "c_labels.png"]
    with Image.open(maps / "a-2_labels.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), np.ones((7, 9)))
        assert image.convert("RGB").getpixel((0, 0)) != (0, 0, 0)


def test_a_label_map_never_replaces_an_image(models: dict[str, Path], tmp_path: Path) -> None:
    for name in ("a.png", "a_labels.png"):
        Image.new("RGB", (9, 7)).save(tmp_path / name)
    before = (tmp_path / "a_labels.png").read_bytes()
    assert main([str(models["segment"]), str(tmp_path), "--output", str(tmp_path)]) == 0
    assert (tmp_path / "a_labels.png").read_bytes() == before
    assert (tmp_path / "a-2_labels.png").exists()


def test_paths_on_standard_input_give_results_as_they_come(models: dict[str, Path], photos: Path) -> None:
    with start(models["classify"], "-", "--top", "1") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name, colour in (("a.png", "red"), ("c.png", "blue"), ("a.png", "red")):
            process.stdin.write(f"{photos / name}\n")
            process.stdin.flush()
            # Waits for the result before it gives the next path.
            assert process.stdout.readline() == f"{photos / name}  {colour} 100.0 %\n"
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")


def test_a_reader_that_goes_away_is_not_a_mistake(models: dict[str, Path], photos: Path) -> None:
    with start(models["classify"], "-") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.write(f"{photos / 'a.png'}\n" * 3)
        process.stdin.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_ctrl_c_ends_it_without_a_traceback(models: dict[str, Path], photos: Path) -> None:
    with start(models["classify"], "-") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{photos / 'a.png'}\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr is not None
        assert process.stderr.read() == "interrupted\n"


def test_no_engine_and_no_pytorch_is_imported_before_it_is_needed() -> None:
    script = (
        "import sys, slideformer_runtime.command; "
        "print(sorted({'onnxruntime', 'openvino', 'torch', 'slideformer'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\n"


STRANGE = b"\x1b[31m\xff\n.png"


def test_a_name_is_one_line_whatever_it_holds(models: dict[str, Path], tmp_path: Path) -> None:
    for name in (STRANGE, b"broken" + STRANGE):
        (tmp_path / os.fsdecode(name)).write_bytes(b"not an image")
    Image.new("RGB", (30, 20), (255, 0, 0)).save(tmp_path / os.fsdecode(STRANGE))
    with start(models["classify"], tmp_path, "--top", 1) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == f"{tmp_path}/\\x1b[31m\\udcff\\n.png  red 100.0 %\n"
    assert err.splitlines()[0].startswith(f"left out: {tmp_path}/broken\\x1b[31m\\udcff\\n.png (Unident")
    assert err.splitlines()[1:] == ["1 of 2 images were left out"]
    with start(models["classify"], tmp_path, "--json") as process:
        out, _ = process.communicate(timeout=60)
    paths = {json.loads(line)["path"] for line in out.splitlines()}
    assert paths == {os.fsdecode(bytes(tmp_path) + b"/" + name) for name in (STRANGE, b"broken" + STRANGE)}


def test_help_does_not_import_numpy_or_pillow() -> None:
    script = (
        "import contextlib, io, sys; from slideformer_runtime.command import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main(['--help'])\n"
        "print(sorted({'numpy', 'PIL'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\n"


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing": ((), "the following arguments are required: FILE, IMAGE"),
    "option": (("MODEL", "PHOTOS", "--tip", "3"), "unrecognized arguments: --tip 3"),
    "top": (("MODEL", "PHOTOS", "--top", "0"), "--top must be at least 1, got 0"),
    "threads": (("MODEL", "PHOTOS", "--threads", "0"), "--threads must be from 1 to 1024, got 0"),
    "many threads": (("MODEL", "PHOTOS", "--threads", "9" * 11), "--threads must be from 1 to 1024, got 999"),
    "score": (("MODEL", "PHOTOS", "--score", "nan"), "score"),
    "output": (("MODEL", "PHOTOS", "--output", "maps"), "--output goes with a segmenter"),
    "image": (("MODEL", "none.png"), "none.png must be an image, a folder of images or a glob"),
    "unreadable": (("MODEL", "PHOTOS/b.png"), "at least one image must be usable, got 1 that were left out"),
    "stream": (("MODEL", "-", "PHOTOS"), "- must be the only image, got 2"),
    "model": (("none.onnx", "PHOTOS"), "a model must be a file, got none.onnx, which does not exist"),
}


@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD)
def test_a_mistake_is_one_line(
    words: tuple[str, ...],
    message: str,
    models: dict[str, Path],
    photos: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [word.replace("MODEL", str(models["classify"])).replace("PHOTOS", str(photos)) for word in words]
    assert main(given) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
