# SPDX-License-Identifier: Apache-2.0
"""One record of preprocessing, kept in folders and checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

from slideformer.errors import UserError
from slideformer.runs import PREPROCESSING
from slideformer.runs.preprocessing import (
    CROP_MODES,
    EvalTransform,
    Preprocessing,
    read_preprocessing,
)
from slideformer.tasks.classify.samples import eval_loader
from slideformer.tasks.classify.sources import open_hold_out
from tests.saved import opened, save_classifier

USUAL = Preprocessing(
    input_size=(3, 40, 40),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation="bicubic",
    crop_pct=0.9,
)


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_the_record_has_every_field_that_timm_resolves() -> None:
    assert set(PREPROCESSING) == set(resolve_data_config({}, pretrained_cfg={"input_size": (3, 8, 8)}))


@pytest.mark.parametrize("crop_mode", CROP_MODES)
def test_a_folder_keeps_every_field(crop_mode: str, tmp_path: Path) -> None:
    case = replace(USUAL, crop_mode=crop_mode, interpolation="bilinear", input_size=(3, 24, 37))
    model = timm.create_model("slide_swin_nano", num_classes=2)
    save_classifier(model, tmp_path, **case.values())
    info = opened(tmp_path)[1]
    assert info.preprocessing == case
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert timm.data.resolve_model_data_config(loaded)["crop_mode"] == crop_mode


def test_evaluation_sees_the_pixels_of_training(tmp_path: Path) -> None:
    case = replace(USUAL, crop_mode="squash")
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        noise(61, 43).save(tmp_path / name / "a.png")
    loader = eval_loader(
        open_hold_out(str(tmp_path)),
        EvalTransform(case),
        batch_size=2,
        num_workers=0,
        on_bad_image="stop",
    )
    expected = create_transform(**case.values(), is_training=False)(noise(61, 43))
    for batch in loader:
        assert torch.equal(batch.images, torch.stack([expected, expected]))


def test_what_was_written_before_has_the_crop_of_before() -> None:
    older = {name: value for name, value in USUAL.values().items() if name != "crop_mode"}
    assert read_preprocessing(older, "model.onnx").crop_mode == "center"
    assert read_preprocessing({**older, "crop_mode": None}, "model.onnx").crop_mode == "center"


def test_of_a_thin_image_the_crop_shows_what_it_would_of_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(2, 4001)
    expected = create_transform(**USUAL.values(), is_training=False)(image)
    monkeypatch.setattr("slideformer.runs.preprocessing.MANY_PIXELS", 1)
    found = EvalTransform(USUAL)(image)
    # At its upper and lower edge the filter lacks pixels that were cut off.
    torch.testing.assert_close(found[:, 8:-8], expected[:, 8:-8], rtol=0, atol=0.05)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "one mean": ({"mean": [0.5]}, "mean in x must have a number for each of 3 channels, got 1"),
    "NaN": ({"mean": [float("nan"), 0, 0]}, "mean in x must be a list of .* each a number from 0 to 1"),
    "std": ({"std": [0, 1, 1]}, "std in x must be a list of"),
    "crop": ({"crop_pct": "most"}, "crop_pct in x must be a number from 0.05 to 20, got 'most'"),
    "random": ({"interpolation": "random"}, "interpolation in x must be one of nearest, bilinear"),
    "huge": ({"input_size": [3, 100_000, 100_000]}, "input_size in x must be a list of 3 values"),
    "nothing left": ({"crop_pct": 20, "input_size": [3, 8, 8]}, "must be 1 to 8192 when divided"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_a_value_out_of_its_range_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_preprocessing({**USUAL.values(), **change}, "x")


def test_a_model_of_other_channels_does_not_take_images() -> None:
    grey = read_preprocessing({**USUAL.values(), "input_size": (1, 8, 8), "mean": (0.5,), "std": (0.5,)}, "x")
    with pytest.raises(UserError, match="images are RGB, but the model takes 1 channels"):
        EvalTransform(grey)
