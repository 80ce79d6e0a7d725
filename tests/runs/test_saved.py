# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from slideformer.dense.detector import HEADS
from slideformer.errors import UserError
from slideformer.models import reparameterize
from slideformer.runs import open_run, save_run, task_of
from tests.dense.small_detectors import pictures, small_run
from tests.saved import opened, save_classifier

LABELS = ("ant", "bee", "cat")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = small_run("retinanet", options={"kernel_size": 5, "slide_stages": (0,)})
    save_run(
        replace(run, class_names=LABELS, category_ids=(1, 7, 90), short_side=480, orientation="stored"),
        tmp_path / "run",
    )
    return tmp_path / "run"


@pytest.mark.parametrize("head", HEADS)
def test_a_saved_detector_comes_back_in_evaluation_mode(head: str, tmp_path: Path) -> None:
    run = small_run(head)
    save_run(run, tmp_path)
    found = open_run(tmp_path)
    assert not found.model.training
    assert found.blueprint == run.blueprint
    with torch.inference_mode():
        torch.testing.assert_close(found.model(pictures()), run.model(pictures()), atol=0, rtol=0)


def test_names_ids_and_the_rest_come_back(folder: Path) -> None:
    loaded, info = opened(folder)
    assert (info.class_names, info.category_ids, info.short_side) == (LABELS, (1, 7, 90), 480)
    assert info.orientation == "stored"
    model = loaded.backbone.features.model
    assert [type(stage.blocks[0].attention).__name__ for stage in model.stages[:2]] == [
        "SlideAttention",
        "WindowAttention",
    ]
    assert model.stages[0].blocks[0].attention.kernel_size == 5


def test_saving_again_replaces_the_files_and_leaves_nothing_else(folder: Path) -> None:
    save_run(small_run("retinanet"), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    info = opened(folder)[1]
    assert (info.class_names, info.category_ids, info.short_side) == ((), None, None)


def test_the_task_of_a_folder_is_told(folder: Path, tmp_path: Path) -> None:
    assert task_of(folder) == "detect"
    save_classifier(timm.create_model("slide_swin_nano", num_classes=2), tmp_path / "classifier")
    assert task_of(tmp_path / "classifier") == "classify"


def test_a_task_that_is_not_known_is_refused(folder: Path) -> None:
    edit(task="paint")(folder)
    for ask in (task_of, open_run):
        with pytest.raises(UserError, match="must be one of classify, detect, segment, got 'paint'"):
            ask(folder)


def test_a_merged_model_is_not_saved(tmp_path: Path) -> None:
    run = small_run("retinanet")
    with pytest.raises(ValueError, match="a merged model cannot be saved"):
        save_run(replace(run, model=reparameterize(run.model)), tmp_path)


def test_labels_and_ids_must_fit_the_classes(tmp_path: Path) -> None:
    run = small_run("retinanet")
    with pytest.raises(ValueError, match="label_names must name all 3 classes, got 2"):
        save_run(replace(run, class_names=("ant", "bee")), tmp_path)
    with pytest.raises(ValueError, match=r"category_ids must be 3 different numbers, .*got \[1, 1, 2\]"):
        save_run(replace(run, category_ids=(1, 1, 2)), tmp_path)


def edit(**changes: object) -> Callable[[Path], object]:
    """A change of the configuration."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


SMALL = {"fpn_channels": 16}
FAULTS = {
    "no_config": (lambda f: (f / "config.json").unlink(), "config.json does not exist; give the folder"),
    "no_json": (lambda f: (f / "config.json").write_text("{"), "config.json must be JSON"),
    "lacks": (lambda f: (f / "config.json").write_text('{"task": "detect"}'), "but lacks 'arguments'"),
    "head": (edit(head="yolo"), "config.json does not describe a model that can be built .*got 'yolo'"),
    "backbone": (edit(backbone="nosuchnet"), "must be a name that timm knows"),
    "argument": (edit(arguments={"colour": 1}), "takes .*, got colour"),
    "type": (edit(arguments={"options": {"depths": 3}}), "does not describe a model that can be built"),
    "forbidden": (edit(arguments={"options": {"checkpoint_path": "x.pth"}}), "sets checkpoint_path, which"),
    "labels": (edit(label_names=["ant"]), "label_names must name all 3 classes, got 1"),
    "other_weights": (edit(arguments={"fpn_channels": 8}), "model.safetensors: the weights must fit"),
    "no_weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors must hold the weights"),
    "cut_weights": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
        "model.safetensors must hold the weights",
    ),
}


def broken_weight(folder: Path) -> None:
    """One number of one weight is infinite."""
    state = load_file(folder / "model.safetensors")
    name = next(name for name in state if name.endswith("cls_logits.weight"))
    state[name].flatten()[0] = torch.inf
    save_file(state, folder / "model.safetensors")


def fifo(folder: Path) -> None:
    """A FIFO in the place of the weights."""
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


FAULTS |= {
    "no_backbone": (edit(backbone=None), "backbone in .*config.json must be text .* got None"),
    "no_classes": (edit(num_classes=0), "num_classes in .* must be a whole number from 1 to"),
    "half_classes": (edit(num_classes=3.5), "num_classes in .* must be a whole number"),
    "label_letters": (edit(label_names="abc"), "label_names in .* must be a list"),
    "ids": (edit(category_ids=[1, 2, 2.5]), "category_ids in .* must be a list"),
    "arguments": (edit(arguments=None), "arguments in .* must be an object"),
    "options": (edit(arguments={"options": [1]}), "does not describe a model that can be built"),
    "huge_side": (edit(arguments={"min_size": 10**6}), "min_size must be from 1 to 8192"),
    "short_side": (edit(extra={"short_side": -1}), "short_side in .* must be a whole number"),
    "orientation": (edit(extra={"orientation": 7}), "orientation in .* must be one of upright, stored"),
    "nan_weight": (broken_weight, "model.safetensors must hold finite numbers"),
    "fifo": (fifo, "model.safetensors must be a regular file, got a FIFO"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_folder_is_told_in_a_line(folder: Path, fault: str) -> None:
    damage, message = FAULTS[fault]
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        opened(folder)
    assert "\n" not in str(caught.value)
