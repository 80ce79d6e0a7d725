# SPDX-License-Identifier: Apache-2.0
"""Exported segmenters and detectors find in real photos what PyTorch finds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from slideformer_runtime import Detections, Model, Segmentation
from torch import Tensor, nn

from slideformer.cli.main import main
from slideformer.dense.segmenter import create_segmenter
from slideformer.deploy import RetinaGraph
from slideformer.runs import Blueprint, Run, save_run
from slideformer.tasks.images import read_image
from tests.exported import CATEGORY_IDS, exported_detector, retinanet
from tests.runtime.files import add_facts

# What an exporter that does not write all facts yet leaves out.
EXPORTED = {
    "slideformer_format": "1",
    "precision": "float32",
    "batch": None,
    "height": None,
    "width": None,
}
NAMES = ("ant", "bee", "cat")


@pytest.fixture
def photos(images: dict[str, Path], tmp_path: Path) -> list[Path]:
    """Photos of an odd size, one to be turned."""
    turned = Image.open(images["turned_by_exif.jpg"])
    turned.resize((150, 101)).save(tmp_path / "turned.png", exif=turned.getexif())
    Image.open(images["coffee.png"]).resize((133, 90)).save(tmp_path / "coffee.png")
    return [tmp_path / "turned.png", tmp_path / "coffee.png"]


def exported(run: Run, folder: Path) -> Model:
    save_run(replace(run, class_names=NAMES), folder)
    assert main(["export", str(folder), "--to", "onnx"]) == 0
    return Model(add_facts(folder / "model.onnx", EXPORTED))


def pixels(photo: Path) -> Tensor:
    """Return the input of a model in PyTorch: ``(1, 3, height, width)`` from 0 to 1."""
    return torch.from_numpy(np.array(read_image(photo))).permute(2, 0, 1)[None].float() / 255


@pytest.mark.slow
def test_label_maps_are_those_of_pytorch(photos: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_segmenter("semantic_fpn", "resnet18", 3, channels=16).eval()
    last = model.classifier[1]
    nn.init.normal_(last.weight)  # type: ignore[arg-type]
    with torch.no_grad():  # so that no class is the likeliest everywhere
        last.bias -= model(pixels(photos[0])).mean((0, 2, 3))
    blueprint = Blueprint("segment", "resnet18", 3, "semantic_fpn", {"channels": 16})
    runtime = exported(Run(model=model, blueprint=blueprint), tmp_path / "run")
    for photo in photos:
        found = runtime.predict(photo)
        assert isinstance(found, Segmentation)
        with torch.inference_mode():
            logits = model(pixels(photo))[0]
        wanted = logits.argmax(0).numpy()
        assert found.label_map.shape == wanted.shape
        assert len(np.unique(wanted)) > 1
        first, second = logits.topk(2, dim=0).values.numpy()
        # Where two classes are as likely but for rounding, either may be given.
        assert (found.label_map == wanted)[first - second > 1e-3].all()
        assert {name for name, _ in found.shares()} <= set(NAMES)


@pytest.mark.slow
def test_objects_are_those_of_pytorch(
    photos: list[Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = Path(shutil.copy(exported_detector(tmp_path_factory) / "model.onnx", tmp_path))
    model, runtime = retinanet().model, Model(add_facts(file, EXPORTED))
    assert runtime.facts.category_ids == CATEGORY_IDS
    for photo in photos:
        found = runtime.predict(photo, score=0.0)
        assert isinstance(found, Detections)
        with torch.inference_mode():
            boxes, scores, labels = RetinaGraph(model)(pixels(photo))
        assert len(found.boxes) == len(boxes) > 5
        np.testing.assert_allclose(found.boxes, boxes.numpy(), atol=1e-2)
        np.testing.assert_allclose(found.scores, scores.numpy(), atol=1e-4)
        assert found.labels.tolist() == labels.tolist()
        sure = runtime.predict(photo, score=float(scores[2]) - 1e-4)
        assert isinstance(sure, Detections)
        assert 3 <= len(sure.scores) < len(scores)
