# SPDX-License-Identifier: Apache-2.0
"""Training, evaluation, prediction, calibration and the runtime see the same pixels, for all of timm."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from slideformer_runtime.facts import read_facts
from slideformer_runtime.preprocessing import prepare as prepare_by_runtime
from timm.data import create_transform

from slideformer.deploy import Card
from slideformer.deploy.inputs import prepared
from slideformer.runs import Facts
from slideformer.runs.preprocessing import CROP_MODES, INTERPOLATIONS, EvalTransform, Preprocessing
from tests.runs.test_preprocessing import USUAL, noise
from tests.tiers import fast, pairwise

INPUTS = [(3, 40, 40), (3, 24, 37)]
SHARES = [0.875, 1.0, 1.3]
AXES = (CROP_MODES, INTERPOLATIONS, SHARES, INPUTS)
# Width and height.
SIZES = [(61, 43), (43, 61), (40, 40), (13, 97), (1, 30), (2, 1)]


@pytest.mark.parametrize("row", fast(product(*AXES), *pairwise(*AXES)), ids=str)
def test_every_path_gives_the_pixels_of_training(row: tuple[str, str, float, tuple[int, int, int]]) -> None:
    mode, interpolation, share, size = row
    case = replace(USUAL, crop_mode=mode, interpolation=interpolation, crop_pct=share, input_size=size)
    truth = create_transform(**case.values(), is_training=False)
    given = Facts(task="classify", architecture="x", class_names=("ant", "bee"), preprocessing=case)
    card = Card("float32", "matmul", "ab", given)
    facts = Card.of(card.texts(), Path("model.onnx")).facts
    how = read_facts(card.texts(), "model.onnx").preprocessing
    assert how is not None
    for size in SIZES:
        image = noise(*size)
        expected = truth(image)
        assert torch.equal(EvalTransform(case)(image), expected)
        assert torch.equal(prepared([image], facts.preprocessing, case.input_size[1:])[0][0], expected)
        np.testing.assert_allclose(prepare_by_runtime(image, how), expected.numpy(), rtol=0, atol=1e-6)


def thin_cases() -> dict[str, tuple[Preprocessing, tuple[int, int]]]:
    sizes = [(1, 1), (1, 100_000), (100_000, 1), (3, 70_001)]
    rows = product(CROP_MODES, [(3, 40, 40), (3, 24, 37)], sizes)
    return {
        "-".join(map(str, row)): (replace(USUAL, crop_mode=row[0], input_size=row[1]), row[2]) for row in rows
    }


@pytest.mark.parametrize(("case", "size"), thin_cases().values(), ids=thin_cases())
def test_an_image_of_any_proportions_becomes_an_input(case: Preprocessing, size: tuple[int, int]) -> None:
    image = noise(*size)
    found = EvalTransform(case)(image)
    card = Card("float32", "matmul", "ab", Facts(task="classify", architecture="x", preprocessing=case))
    how = read_facts(card.texts(), "model.onnx").preprocessing
    assert how is not None
    assert found.shape == case.input_size
    np.testing.assert_allclose(prepare_by_runtime(image, how), found.numpy(), rtol=0, atol=1e-6)
