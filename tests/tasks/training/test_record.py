# SPDX-License-Identifier: Apache-2.0
"""The record and the card that a training leaves, compared with the other files of the run."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from slideformer.models.hosts import TIMM_HOSTS
from slideformer.tasks.table import CLASSIFY
from slideformer.tasks.training.fit import fit
from slideformer.tasks.training.record import (
    dataset_of,
    figures_at,
    hub_name_of,
    recipe_of,
    teacher_in_words,
    weights_in_words,
)
from slideformer.tasks.training.run_folder import RunFolder
from slideformer.version import __version__
from tests.conftest import CLASSES, COUNTS

FILES = ("README.md", "training.json")


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A finished run, to be changed at will."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_the_figures_of_a_card_are_those_of_the_best_epoch(finished_run: Path) -> None:
    with (finished_run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/top1"]]
    best = max(rows, key=lambda row: float(row["val/top1"]))
    results = ModelCard.load(finished_run / "README.md").data.eval_results
    assert {x.metric_name: x.metric_value for x in results} == {
        "top-1 accuracy": float(best["val/top1"]),
        "top-5 accuracy": float(best["val/top5"]),
        "loss": float(best["val/loss"]),
    }
    state = torch.load(RunFolder(finished_run).best, weights_only=True)
    record = json.loads((finished_run / "training.json").read_text())
    assert record["epoch"] == int(best["epoch"]) + 1 == state["epoch"] + 1
    assert record["figures"]["top1"] == state["best_score"]


def test_a_record_counts_images_parameters_and_epochs(finished_run: Path) -> None:
    record = json.loads((finished_run / "training.json").read_text())
    weights = load_file(finished_run / "model.safetensors")
    names = dict(timm.create_model(f"local-dir:{finished_run}", pretrained=True).named_parameters())
    assert record["train_images"] == len(CLASSES) * COUNTS["train"]
    assert record["val_images"] == len(CLASSES) * COUNTS["val"]
    assert record["parameters"] == sum(weights[name].numel() for name in names)
    assert (record["epochs"], record["recipe"]["images an update"]) == (3, "8")
    assert record["versions"]["timm"] == timm.__version__
    assert record["images_per_second"] > 0


def test_no_folder_of_the_machine_is_in_what_is_published(finished_run: Path, all_photos: Path) -> None:
    for name in (*FILES, "config.json"):
        text = (finished_run / name).read_text()
        assert str(all_photos.parent) not in text
        assert str(finished_run.parent) not in text
    assert f"--data {all_photos.name} " in (finished_run / "README.md").read_text()


def test_a_resumed_run_has_the_card_of_the_complete_run(run: Path) -> None:
    before = {name: (run / name).read_text() for name in FILES}
    for name in FILES:
        (run / name).unlink()
    fit(CLASSIFY, [f"--resume={run}"])
    record = json.loads((run / "training.json").read_text())
    assert {**record, "device": ""} == {**json.loads(before["training.json"]), "device": ""}
    texts = [before["README.md"], (run / "README.md").read_text()]
    same, other = (text.split(f"\nslideformer {__version__}")[0] for text in texts)  # but for the device
    assert same == other


def test_a_card_that_cannot_be_written_leaves_a_complete_run(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "README.md").unlink()
    (run / "README.md").mkdir()
    fit(CLASSIFY, [f"--resume={run}"])
    out = capsys.readouterr().out
    assert "README.md is not written, all else is: " in out
    assert "first_batch.png in " in out
    assert f"the run is in {run}; next:" in out


@pytest.mark.slow
def test_without_a_best_epoch_the_card_says_so(run: Path) -> None:
    RunFolder(run).best.unlink()
    state = torch.load(RunFolder(run).last, weights_only=True)
    torch.save({**state, "best_score": None}, RunFolder(run).last)
    fit(CLASSIFY, [f"--resume={run}"])
    card = ModelCard.load(run / "README.md")
    assert card.data.eval_results is None
    assert "The weights of epoch 3 of 3, the last one: no epoch was evaluated" in card.text


def test_the_score_is_stated_even_where_its_row_is_gone() -> None:
    damaged = {"val/top1": "torn", "val/loss": "2", None: ["more"]}
    rows = [damaged, {"val/top1": "0.5", "val/loss": "1", None: ["more"]}, {"step": "3"}]
    assert figures_at(rows, "val/top1", 0.5) == {"top1": 0.5, "loss": 1.0}
    assert figures_at(rows, "val/top1", 0.75) == {"top1": 0.75}


def test_what_is_off_is_not_in_the_recipe() -> None:
    config = {
        "seed_everything": 0,
        "model": {"smoothing": 0.0, "ema_decay": None, "mix": {"mixup": 0.5}},
        "data": {},
        "trainer": {"precision": "bf16-mixed"},
    }
    assert recipe_of(config, 64, (32, 48)) == {
        "images an update": "64",
        "height x width, pixels": "32 x 48",
        "mixup": "0.5",
        "precision": "bf16-mixed",
        "seed": "0",
    }


@pytest.mark.parametrize("name", TIMM_HOSTS)
def test_weights_that_timm_publishes_have_a_name_on_the_hub(name: str) -> None:
    assert hub_name_of("host:timm", name).startswith(f"timm/{TIMM_HOSTS[name]}.")
    assert weights_in_words("host:timm", name) == f"{hub_name_of('host:timm', name)}, the plain host"


def test_weights_and_teachers_without_a_name_on_the_hub_are_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "big"
    folder.mkdir()
    for weights, words in ((None, "random"), (str(folder), "big"), (f"host:{folder}", "big, the plain host")):
        assert hub_name_of(weights, "slide_swin_tiny") == ""
        assert weights_in_words(weights, "slide_swin_tiny") == words
    assert teacher_in_words(str(folder)) == "big"
    assert teacher_in_words("resnet18").startswith("timm/resnet18.")
    assert teacher_in_words("slide_swin_tiny") == "slide_swin_tiny"
    assert teacher_in_words(None) == ""


SOURCES = {
    "hfds/someone/beans": "someone/beans",
    "HFIDS/beans": "beans",
    "hfds/a/b/c": "",
    "wds/someone": "",
    "photos": "",
    "digits": "",
}


@pytest.mark.parametrize(("source", "name"), SOURCES.items())
def test_only_data_of_the_hub_have_a_name_there(source: str, name: str) -> None:
    assert dataset_of(source) == name
