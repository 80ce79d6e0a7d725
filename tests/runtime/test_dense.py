# SPDX-License-Identifier: Apache-2.0
"""Exported segmenters and detectors find in real photos what PyTorch finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from slideformer_runtime import Detections, Model, Segmentation
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from slideformer.cli.main import main
from slideformer.dense.segmenter import create_segmenter
from slideformer.runs import Blueprint, Run, open_run, save_run
from slideformer.tasks.images import read_image
from slideformer.tasks.predict import predict
from tests.exported import CATEGORY_IDS, exported_detector, exported_mask_detector
from tests.runtime.files import add_facts, mask_detector

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
@pytest.mark.parametrize("exported", [exported_detector, exported_mask_detector], ids=["boxes", "masks"])
def test_objects_are_those_of_pytorch(
    photos: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
    exported: Callable[[pytest.TempPathFactory], Path],
) -> None:
    folder = exported(tmp_path_factory)
    runtime = Model(folder / "model.onnx")
    assert runtime.facts.category_ids == CATEGORY_IDS
    run = open_run(folder)
    for score in (0.0, 0.2):
        wanted = predict(run, photos, score=score)
        for photo, row in zip(photos, wanted, strict=True):
            found = runtime.predict(photo, score=score)
            assert isinstance(found, Detections)
            assert len(found.boxes) == len(row.boxes)
            assert score or len(found.boxes) > 5
            np.testing.assert_allclose(found.boxes, row.boxes, atol=1e-2)
            np.testing.assert_allclose(found.scores, row.scores, atol=1e-4)
            assert found.labels.tolist() == row.labels.tolist()
            assert (found.masks is None) == (row.masks is None)
            for mask, other in zip(
                () if found.masks is None else found.masks,
                () if row.masks is None else row.masks,
                strict=True,
            ):
                assert (mask & other).sum() >= 0.99 * (mask | other).sum()


def test_a_file_with_masks_gives_them_in_the_size_of_the_image(tmp_path: Path) -> None:
    model = Model(mask_detector(tmp_path / "model.onnx"))
    found = model.predict(Image.new("RGB", (12, 10), "white"))
    assert isinstance(found, Detections)
    assert found.masks is not None
    assert found.masks.shape == (1, 10, 12)
    half = torch.zeros(1, 1, 28, 28)
    half[..., :14] = 0.9
    wanted = paste_masks_in_image(half, torch.tensor([[1.0, 2, 5, 8]]), (10, 12))[:, 0] > 0.5
    assert np.array_equal(found.masks, wanted.numpy())
    (row,) = found.to_dict()["detections"]
    assert row["segmentation"]["size"] == [10, 12]
