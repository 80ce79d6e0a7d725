# SPDX-License-Identifier: Apache-2.0
"""A study from the command line: trained, evaluated, reported, and not trained twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from slideformer.bench import restore
from slideformer.cli.main import main
from slideformer.runs import open_run
from slideformer.tasks.evaluate import evaluate
from tests.fashion import write_fashion


def bench(folder: Path, *words: object) -> int:
    places = ("--root", folder / "data", "--output", folder / "runs", "--json", folder / "figures.json")
    return main(["bench", "accuracy", *map(str, (*words, *places))])


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "figures.json").read_text())
    return found


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The line that a mistake is answered with."""
    assert bench(folder, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.slow
def test_a_study_is_trained_once_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fashion(tmp_path / "data", train=150, test=30)
    plot = tmp_path / "figure.png"
    assert bench(tmp_path, "recipe", "--epochs", 1, 2, "--plot", plot) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("% on the test split;" in line for line in lines) == 2
    found = figures(tmp_path)
    assert [x["epochs"] for x in found["outcomes"]] == [1, 2]
    assert found["images"] == 150
    assert "--epochs 1 2" in found["conditions"]["command"]
    for outcome in found["outcomes"]:
        (folder,) = (tmp_path / "runs").glob(f"*-epochs-{outcome['epochs']}-seed-0")
        again = evaluate(open_run(folder), "torch/fashion_mnist", root=str(tmp_path / "data"))
        assert again.to_dict()["top1"] == outcome["top1"]
    with Image.open(plot) as image:
        assert image.size[0] > 500
    assert restore(found).table.text() in "\n".join(lines)

    assert bench(tmp_path, "recipe", "--epochs", 1, 2) == 0
    assert "% on the test split;" not in capsys.readouterr().out
    assert figures(tmp_path)["outcomes"] == found["outcomes"]

    shutil.rmtree(tmp_path / "runs")
    assert bench(tmp_path, "recipe", "--epochs", 2, 1) == 0
    assert not (tmp_path / "runs").exists()
    assert figures(tmp_path)["outcomes"] == found["outcomes"][::-1]


def test_earlier_results_that_are_not_asked_for_are_not_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fashion(tmp_path / "data", train=30, test=10)
    kept = {"arm": "slide", "epochs": 3, "seed": 4, "parameters": 9, "top1": 0.5, "digest": "an earlier one"}
    text = json.dumps({"kind": "accuracy", "outcomes": [kept]})
    (tmp_path / "figures.json").write_text(text)
    line = refused(tmp_path, capsys, "recipe", "--epochs", 1)
    assert (
        "--json must have results of these trainings only, got 1 of others, such as slide, 3 epochs" in line
    )
    assert (tmp_path / "figures.json").read_text() == text
    assert not (tmp_path / "runs").exists()


def test_missing_data_are_one_line_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").write_text("")
    line = refused(tmp_path, capsys, "ablation")
    assert "Debian has the same files: apt-get download dataset-fashion-mnist" in line
    assert not (tmp_path / "runs").exists()


def test_more_images_than_there_are_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fashion(tmp_path / "data", train=30, test=10)
    line = refused(tmp_path, capsys, "ablation", "--images", 26)
    assert "--images must be at most the 25 images to train on, got 26; lower it" in line


def test_an_output_that_is_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").write_text("")
    assert "--output must be a folder, got the file" in refused(tmp_path, capsys, "rates")


@pytest.mark.parametrize("text", ['{"kind": "compare"}', '{"outcomes": [{"arm": "a"}]}', '{"outcomes": 3}'])
def test_figures_of_something_else_are_not_replaced(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fashion(tmp_path / "data", train=30, test=10)
    (tmp_path / "figures.json").write_text(text)
    line = refused(tmp_path, capsys, "recipe")
    assert "--json must be a new file or one of `bench accuracy`, got" in line
    assert (tmp_path / "figures.json").read_text() == text
    assert not (tmp_path / "runs").exists()
