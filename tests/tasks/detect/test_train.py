# SPDX-License-Identifier: Apache-2.0
"""A detector from its first epoch to what the verbs make of it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from slideformer.cli.main import main
from slideformer.dense.features import Features
from slideformer.tasks.detect.module import DetectorLearner
from slideformer.tasks.training.run_folder import RunFolder
from tests.saved import opened
from tests.tasks.detect.conftest import train
from tests.tiers import fast

STEPS = 3  # an epoch: 6 pictures in batches of 2


def figures(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def test_a_finished_run_is_a_detector_with_its_classes(detection_run: Path) -> None:
    model, info = opened(detection_run)
    assert info.class_names == ("disc", "ring", "square", "triangle", "star")
    assert info.category_ids == (1, 2, 3, 4, 5)
    best = torch.load(RunFolder(detection_run).best, weights_only=True)["state_dict"]
    for name, x in model.state_dict().items():
        assert torch.equal(x, best[f"model.{name}"]), name


def test_a_finished_run_has_its_images(detection_run: Path) -> None:
    for name in ("first_batch.png", "curves.png", "predictions.png"):
        with Image.open(detection_run / name) as image:
            image.load()
            assert image.width > 400


def test_the_card_of_a_finished_run_has_the_figures_of_its_best_epoch(detection_run: Path) -> None:
    card = ModelCard.load(detection_run / "README.md").data
    assert (card.pipeline_tag, card.library_name) == ("object-detection", "slideformer")
    found = {result.metric_name: result.metric_value for result in card.eval_results}
    assert found["box AP"] == max(figures(detection_run, "val/box_AP"))
    assert {name.split()[0] for name in found} == {"box", "mask"}
    record = json.loads((detection_run / "training.json").read_text())
    assert (record["train_images"], record["val_images"]) == (6, 3)


def test_evaluate_gives_what_the_best_epoch_gave(
    detection_run: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(["evaluate", str(detection_run), "--data", str(scenes), "--output", str(output)]) == 0
    found = json.loads((output / "evaluation.json").read_text())
    assert found["box"]["AP"] == pytest.approx(max(figures(detection_run, "val/box_AP")), abs=1e-6)
    assert (found["box"]["AP"], found["mask"]["AP"]) != (0, 0)
    assert "AP50" in capsys.readouterr().out
    rows = json.loads((output / "detections.json").read_text())
    assert {row["image_id"] for row in rows} == {1, 2, 3}


@pytest.mark.parametrize("update", fast([1, STEPS + 1]))
def test_a_broken_run_goes_on_as_if_nothing_had_happened(
    scenes: Path, detection_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update: int
) -> None:
    step = DetectorLearner.training_step

    def breaking(self: DetectorLearner, batch: Any, index: int) -> Tensor:
        if self.global_step == update:
            raise InterruptedError
        return step(self, batch, index)

    monkeypatch.setattr(DetectorLearner, "training_step", breaking)
    with pytest.raises(InterruptedError):
        train(scenes, tmp_path / "run")
    monkeypatch.setattr(DetectorLearner, "training_step", step)
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0  # the run says that it is a detector's
    states = [
        torch.load(RunFolder(run).last, weights_only=True)["state_dict"]
        for run in (detection_run, tmp_path / "run")
    ]
    for name, x in states[0].items():
        assert torch.equal(x, states[1][name]), name


def test_a_resumed_run_needs_no_weights_to_begin_with(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "backbone.safetensors"
    save_file(Features("slide_swin_nano").model.state_dict(), weights)
    run = train(scenes, tmp_path / "run", f"--model.weights={weights}")
    assert f"{weights}: 82 of 82 tensors taken" in capsys.readouterr().out
    weights.unlink()
    assert main(["train", "--resume", str(run), "--trainer.max_epochs", "3"]) == 0
    assert f"weights: {weights}" in (run / "config.yaml").read_text()


def test_predict_draws_and_writes_cocos_results(
    detection_run: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, output = scenes / "val" / "000001.jpg", tmp_path / "out"
    (tmp_path / "bad.png").write_text("no picture")
    words = ["predict", detection_run, picture, tmp_path / "bad.png", "--score", "0", "--output", output]
    assert main([*map(str, words), "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["path"] for row in told if "error" in row] == [str(tmp_path / "bad.png")]
    rows = json.loads((output / "detections.json").read_text())
    assert len(rows) == len(told[0]["detections"]) > 0
    assert {row["name"] for row in told[0]["detections"]} <= {"disc", "ring", "square", "triangle", "star"}
    assert json.loads((output / "images.json").read_text())[0] == {"id": 1, "file_name": str(picture)}
    with Image.open(output / "000001.png") as drawn, Image.open(picture) as image:
        assert drawn.height >= image.height
        assert drawn.width > image.width, "the legend is next to the image, which has its own size"


def test_data_of_other_categories_are_refused(
    detection_run: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(scenes, tmp_path / "data"))
    file = data / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    content["categories"][0]["name"] = "moon"
    file.write_text(json.dumps(content))
    words = ["evaluate", str(detection_run), "--data", str(data), "--output", str(tmp_path / "out")]
    assert main(words) == 2
    assert "must have the model's categories" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "{run}", "{picture}", "--top", "2"], "--top goes with a run of classify, got"),
        (["predict", "{run}", "{picture}", "--window", "64"], "--window goes with a run of segment"),
        (["predict", "{run}", "{picture}", "--max-drawn", "-1"], "--max-drawn must be"),
        (["predict", "{run}", "{picture}", "--score", "2"], "--score must be a number from 0 to 1, got '2'"),
        (["evaluate", "{run}", "--data", "nowhere"], "--data must be a folder, got nowhere"),
        (["train", "detect", "--data=nowhere"], "--data must be a folder, got nowhere"),
        (["train", "detect", "--model=mask_rcn", "--data={data}"], "mask_rcnn"),
        (["train", "detect", "--backbone=slide_swin_tinny", "--data={data}"], "slide_swin_tiny"),
        (["train", "detect", "--model.head={{colour: 3}}", "--data={data}"], "colour"),
        (["train", "detect", "--model.frozen_stages=9", "--data={data}"], "frozen_stages must be from 0"),
        (["train", "detect", "--model.weights=nowhere", "--data={data}"], "nowhere"),
        (["train", "detec", "--data={data}"], "the task must be one of classify, detect, segment, got detec"),
        (["train", "--config={run}/config.yaml", "--data={data}"], "already holds a run; continue it"),
        (["train", "classify", "--config={run}/config.yaml", "--data={data}"], "slideformer train"),
    ],
    ids=lambda x: " ".join(x)[:60] if isinstance(x, list) else "",
)
def test_a_mistake_is_one_line(
    words: list[str],
    message: str,
    detection_run: Path,
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    picture = scenes / "val" / "000001.jpg"
    assert main([word.format(run=detection_run, data=scenes, picture=picture) for word in words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
