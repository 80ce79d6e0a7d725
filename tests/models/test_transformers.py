# SPDX-License-Identifier: Apache-2.0
"""The auto classes of transformers read our folders and give our own numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform
from torch import nn

import slideformer
from tests.models.families import FAMILIES, small
from tests.saved import opened, save_classifier
from tests.tasks.odd_images import turned_by
from tests.tiers import fast

transformers = pytest.importorskip("transformers")

LABELS = ("ant", "bee", "cat", "dog", "eel")
IMAGE = torch.randn(2, 3, 64, 72, generator=torch.Generator().manual_seed(0))
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8))


@pytest.fixture(autouse=True)
def _without_bars_and_gradients() -> Iterator[None]:
    transformers.utils.logging.disable_progress_bar()
    with torch.no_grad():
        yield
    transformers.utils.logging.enable_progress_bar()


@pytest.fixture(scope="module", params=fast(FAMILIES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of each family."""
    return saved(request.param, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def one_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of one family."""
    return saved(next(iter(FAMILIES)), tmp_path_factory.mktemp("run"))


def saved(family: str, parent: Path) -> Path:
    """Save a model of five classes, sharper than a fresh one, for images of 64 x 64; its folder."""
    torch.manual_seed(0)
    model: Any = small(family)
    nn.init.normal_(model.head.fc.weight)
    save_classifier(model, parent / family, class_names=LABELS, input_size=(3, 64, 64))
    return parent / family


def test_the_classifier_gives_our_own_logits(folder: Path) -> None:
    own, _ = opened(folder)
    model = transformers.AutoModelForImageClassification.from_pretrained(folder)
    assert not model.training
    assert model.config.id2label == dict(enumerate(LABELS))
    assert torch.equal(model(IMAGE).logits, own(IMAGE))
    half = transformers.AutoModelForImageClassification.from_pretrained(folder, dtype=torch.bfloat16)
    assert torch.equal(half(IMAGE).logits, own.bfloat16()(IMAGE.bfloat16()))


def test_a_copy_that_transformers_saves_is_the_same(folder: Path, tmp_path: Path) -> None:
    own, _ = opened(folder)
    model = transformers.AutoModelForImageClassification.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    copy = transformers.AutoModelForImageClassification.from_pretrained(tmp_path)
    assert torch.equal(copy(IMAGE).logits, own(IMAGE))


def test_the_pipeline_gives_our_own_probabilities(folder: Path) -> None:
    own, info = opened(folder)
    pipeline = transformers.pipeline("image-classification", model=str(folder))
    found = {row["label"]: row["score"] for row in pipeline(PHOTO)}
    prepared = create_transform(**info.preprocessing.values(), is_training=False)(PHOTO)
    wanted = own(prepared[None])[0].softmax(0)
    # The pipeline takes the softmax in NumPy, which rounds otherwise.
    assert found == pytest.approx(dict(zip(LABELS, wanted.tolist(), strict=True)), rel=1e-5)


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (PHOTO, {}),
        (PHOTO, {"exif": turned_by(6)}),
        (PHOTO.convert("L"), {}),
        (PHOTO.convert("RGBA"), {}),
        (PHOTO.quantize(64), {"transparency": 3}),
        (PHOTO.resize((9000, 3)), {}),
    ],
    ids=["colour", "turned", "grey", "opacity", "palette", "long"],
)
def test_the_pipeline_reads_a_file_as_predict_does(
    image: Image.Image, options: dict[str, Any], one_folder: Path, tmp_path: Path
) -> None:
    image.save(tmp_path / "photo.png", **options)
    pipeline = transformers.pipeline("image-classification", model=str(one_folder))
    found = {row["label"]: row["score"] for row in pipeline(str(tmp_path / "photo.png"))}
    (result,) = slideformer.predict(slideformer.open_run(one_folder), tmp_path / "photo.png")
    assert found == pytest.approx(dict(zip(LABELS, result.probabilities, strict=True)), rel=1e-5)


def test_a_copy_with_other_classes_opens_here(one_folder: Path, tmp_path: Path) -> None:
    others = ["fir", "oak"]
    model = transformers.AutoModelForImageClassification.from_pretrained(
        one_folder, num_labels=2, id2label=dict(enumerate(others)), ignore_mismatched_sizes=True
    )
    model.config.label_names = others
    model.save_pretrained(tmp_path)
    own, run = opened(tmp_path)
    assert list(run.class_names) == others
    assert torch.equal(own(IMAGE), model(IMAGE).logits)
    again = transformers.AutoModelForImageClassification.from_pretrained(tmp_path)
    assert again.config.id2label == dict(enumerate(others))


def test_features_are_our_own(folder: Path) -> None:
    own, _ = opened(folder)
    last, maps = own.forward_intermediates(IMAGE)
    model = transformers.AutoModel.from_pretrained(folder)
    assert torch.equal(model(IMAGE).last_hidden_state, last)
    backbone = transformers.TimmBackbone.from_pretrained(
        f"local-dir:{folder}", out_indices=tuple(range(len(maps)))
    ).eval()
    found = backbone(IMAGE).feature_maps
    assert all(torch.equal(x, y) for x, y in zip(found, maps, strict=True))


def test_timm_opens_the_same_folder(folder: Path) -> None:
    own, _ = opened(folder)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert torch.equal(model(IMAGE), own(IMAGE))
    assert tuple(model.pretrained_cfg["label_names"]) == LABELS
