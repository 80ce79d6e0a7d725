# SPDX-License-Identifier: Apache-2.0
"""A classifier's input is what timm's transforms for evaluation give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from slideformer_runtime.images import read_image
from slideformer_runtime.preprocessing import Preprocessing, prepare
from timm.data import create_transform

from tests.runtime.made_images import NAMES

USUAL = Preprocessing((3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic", 0.9)
CASES = {
    "usual": USUAL,
    "bilinear": replace(USUAL, interpolation="bilinear", crop_pct=0.875),
    "lanczos": replace(USUAL, interpolation="lanczos"),
    "uncropped": replace(USUAL, crop_pct=1.0),
    "small": replace(USUAL, input_size=(3, 32, 32), crop_pct=0.95),
    "odd": replace(USUAL, input_size=(3, 65, 65), crop_pct=0.8),
    "wide": replace(USUAL, input_size=(3, 48, 96)),
    "larger than resized": replace(USUAL, input_size=(3, 64, 64), crop_pct=1.3),
    "squash": replace(USUAL, input_size=(3, 64, 64), crop_mode="squash"),
    "border": replace(USUAL, input_size=(3, 64, 64), crop_mode="border"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("name", NAMES)
def test_the_input_is_that_of_timm(name: str, case: Preprocessing, images: dict[str, Path]) -> None:
    image = read_image(images[name])
    transform = create_transform(
        input_size=case.input_size,
        mean=case.mean,
        std=case.std,
        interpolation=case.interpolation,
        crop_pct=case.crop_pct,
        crop_mode=case.crop_mode,
        is_training=False,
    )
    found = prepare(image, case)
    assert found.dtype == np.float32
    assert found.shape == case.input_size
    np.testing.assert_allclose(found, transform(image).numpy(), rtol=0, atol=1e-6)
