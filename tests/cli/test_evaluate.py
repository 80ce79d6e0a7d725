# SPDX-License-Identifier: Apache-2.0
"""What `slideformer evaluate` and `slideformer predict` print, write and refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from PIL import Image

from slideformer.cli.main import main


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A finished run, to be changed at will."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_evaluate_prints_a_table_and_leaves_both_files(
    run: Path, all_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "--data", str(all_photos)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["class", "images", "recall", "%", "precision", "%"]
    assert lines[3].startswith("ölbaum und Rand")
    assert "top-1 100.00 %   top-5 100.00 %" in lines[4]
    assert json.loads((run / "evaluation.json").read_text())["top1"] == 1.0
    with Image.open(run / "confusion.png") as picture:
        picture.load()


def test_evaluate_as_json_into_another_folder(
    finished_run: Path, all_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "deep" / "results"
    words = ["evaluate", finished_run, "--data", all_photos / "val", "--output", output, "--json"]
    assert main([str(word) for word in words]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((output / "evaluation.json").read_text())
    assert printed["images"] == 9


def figures_on_the_hub(run: Path) -> dict[str, float]:
    """The figures of a card by their names."""
    results = ModelCard.load(run / "README.md").data.eval_results
    return {result.metric_name: result.metric_value for result in results}


def test_evaluate_puts_its_figures_and_its_command_into_the_card(
    run: Path, all_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(run), "--data", str(all_photos / "val"), "--precision", "bfloat16"]
    assert main(words) == 0
    found = json.loads((run / "evaluation.json").read_text())
    assert figures_on_the_hub(run) == {
        "top-1 accuracy": found["top1"], "top-5 accuracy": found["top5"], "loss": found["loss"]
    }  # fmt: skip
    card = (run / "README.md").read_text()
    assert "\nslideformer evaluate run --data val --precision bfloat16\n" in card
    assert "on 9 images of val" in card
    assert str(run.parent) not in card
    assert capsys.readouterr().out.endswith(f"confusion.png, {run / 'README.md'}\n")


@pytest.mark.parametrize(
    ("held_out", "words", "part"),
    [
        (0.25, [], ", held-out part"),
        (0.25, ["--val-fraction", "0.25"], ", held-out part"),
        (0.25, ["--val-fraction", "1"], ", all images"),
        (0.25, ["--val-fraction", "0.5"], ", a part of 0.5"),
        (None, [], ""),
    ],
)
def test_the_card_says_which_part_of_the_data_was_evaluated(
    held_out: float | None, words: list[str], part: str, run: Path, all_photos: Path
) -> None:
    content = json.loads((run / "config.json").read_text())
    if held_out is not None:
        (run / "config.json").write_text(json.dumps({**content, "val_fraction": held_out}))
    assert main(["evaluate", str(run), "--data", str(all_photos / "train"), *words]) == 0
    results = ModelCard.load(run / "README.md").data.eval_results
    assert {result.dataset_name for result in results} == {f"train{part}"}


@pytest.mark.parametrize(
    ("words", "trained_on"),
    [([], False), (["--val-fraction", "0.25"], False), (["--val-fraction", "1"], True)],
)
def test_figures_on_more_than_the_hold_out_of_the_training_do_not_replace_its_own(
    words: list[str], trained_on: bool, run: Path, all_photos: Path
) -> None:
    for name, changes in {"config": {"val_fraction": 0.25}, "training": {"data": "train"}}.items():
        content = json.loads((run / f"{name}.json").read_text())
        (run / f"{name}.json").write_text(json.dumps({**content, **changes}))
    assert main(["evaluate", str(run), "--data", str(all_photos / "train"), *words]) == 0
    assert ("may have been trained on" in (run / "README.md").read_text()) == trained_on
    names = {result.dataset_name for result in ModelCard.load(run / "README.md").data.eval_results}
    assert names == {"train, held-out part"}


def test_results_elsewhere_leave_the_card_as_it_is(run: Path, all_photos: Path, tmp_path: Path) -> None:
    before = (run / "README.md").read_text()
    words = ["evaluate", str(run), "--data", str(all_photos), "--output", str(tmp_path / "there")]
    assert main(words) == 0
    assert (run / "README.md").read_text() == before
    assert not (tmp_path / "there" / "README.md").exists()


def test_evaluate_says_that_it_leaves_an_edited_card(
    run: Path, all_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "README.md").write_text("mine")
    assert main(["evaluate", str(run), "--data", str(all_photos), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["images"] == 9
    assert captured.err.startswith("README.md is not written, all else is: ")
    assert captured.err.count("\n") == 1
    assert (run / "README.md").read_text() == "mine"


def test_evaluate_tells_what_it_left_out(run: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = photos / "val" / "kiwi" / "0.jpg"
    bad.write_text("no picture")
    words = ["evaluate", str(run), "--data", str(photos), "--workers", "1"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "(8 images, 1 left out)" in out
    assert f"left out, unreadable: {bad}" in out
    assert main([*words, "--on-bad-image", "stop"]) == 2
    assert f"an image must be complete and readable, got {bad}" in capsys.readouterr().err


def test_predict_prints_a_line_a_picture(
    run: Path, all_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = str(all_photos / "val" / "lemon" / "0.jpg")
    assert main(["predict", str(run), picture, "--top", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{picture}  lemon ")
    assert out.count("%") == 2


def test_predict_as_json_is_one_object_a_line_and_bad_pictures_are_told_beside(
    run: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "val" / "kiwi" / "0.jpg").write_text("no picture")
    assert main(["predict", str(run), str(photos / "val"), "--json"]) == 0
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert [row["path"] for row in rows if "error" in row] == [str(photos / "val" / "kiwi" / "0.jpg")]
    good = [row for row in rows if "classes" in row]
    assert len(good) == 8
    assert all(sum(c["probability"] for c in row["classes"]) == pytest.approx(1) for row in good)
    assert "1 of 9 images were unreadable" in captured.err


def no_weights(run: Path) -> None:
    (run / "model.safetensors").unlink()


def half_the_weights(run: Path) -> None:
    path = run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def half_the_config(run: Path) -> None:
    path = run / "config.json"
    path.write_text(path.read_text()[:100])


def config_of_another_model(run: Path) -> None:
    path = run / "config.json"
    path.write_text(path.read_text().replace("slide_swin_nano", "slide_swin_tiny"))


def a_class_too_many(run: Path) -> None:
    path = run / "config.json"
    path.write_text(path.read_text().replace('"num_classes": 3', '"num_classes": 4'))


def unfinished(run: Path) -> None:
    (run / "config.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_weights, r"model.safetensors must hold the weights"),
        (half_the_weights, r"model.safetensors must hold the weights"),
        (half_the_config, r"config.json must be JSON"),
        (config_of_another_model, r"model.safetensors: "),
        (a_class_too_many, r"config.json must name all 4 classes, got 3 label_names"),
        (unfinished, r"config.json does not exist; give the folder of a finished run"),
    ],
)
@pytest.mark.parametrize("verb", ["evaluate", "predict", "export"])
def test_a_folder_that_is_no_whole_run(
    verb: str,
    spoil: Callable[[Path], None],
    message: str,
    run: Path,
    all_photos: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(run)
    rest = {"evaluate": ["--data", str(all_photos)], "predict": [str(all_photos)], "export": ["--to", "onnx"]}
    assert main([verb, str(run), *rest[verb]]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (run / "evaluation.json").exists()
    assert not (run / "model.onnx").exists()
