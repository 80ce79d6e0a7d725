# SPDX-License-Identifier: Apache-2.0
"""Masks of every form are the pixels that pycocotools makes of them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from slideformer.errors import UserError
from slideformer.tasks.detect import masks
from tests.tasks.detect.examples import HEIGHT, WIDTH, decoded, segmentation

# pycocotools hands its masks to NumPy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize("seed", range(12))
def test_polygons_and_run_lengths_are_drawn_as_pycocotools_draws_them(seed: int) -> None:
    form, _ = segmentation(np.random.default_rng(seed))
    mask = masks.from_annotation(form, HEIGHT, WIDTH)
    assert mask is not None
    np.testing.assert_array_equal(masks.decode(mask), decoded(form))
    assert masks.area(mask) == decoded(form).sum()


@pytest.mark.parametrize("fill", [0.0, 0.02, 0.5, 1.0])
def test_a_mask_comes_back_from_its_run_lengths_and_pycocotools_reads_them(fill: float) -> None:
    pixels = (np.random.default_rng(0).uniform(size=(37, 53)) < fill).astype(np.uint8)
    mask = masks.encode(pixels)
    np.testing.assert_array_equal(masks.decode(mask), pixels)
    np.testing.assert_array_equal(coco_mask.decode(mask.to_coco()), pixels)
    assert masks.area(mask) == pixels.sum()
    flat = pixels.T.ravel()
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])
    assert masks.run_lengths(mask.counts) == [0] * int(flat[0]) + np.diff(edges).tolist()


@pytest.mark.parametrize(
    "form",
    [
        None,
        [],
        [[]],
        [[1, 1, 5, 5]],
        [[1, 1, 1, 1, 1, 1]],
        {"size": [10, 20], "counts": [200]},
        {"size": [10, 20], "counts": "X6"},
    ],
    ids=["none", "no polygon", "empty polygon", "a line", "a point", "no pixel", "no pixel, compressed"],
)
def test_a_mask_without_a_pixel_is_none(form: Any) -> None:
    assert masks.from_annotation(form, 10, 20) is None


def test_without_the_library_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval.core", None)
    with pytest.raises(UserError, match=r"pip install 'slideformer\[detect\]'"):
        masks.encode(np.ones((2, 2)))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("x", "must be polygons or run lengths, got str"),
        ([[1, 2, 3, 4, 5]], "must have polygons of x and y in turn, got 5 numbers"),
        ([1, 2, 3, 4, 5, 6], "must be polygons, each a list of finite numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "must be polygons, each a list of finite numbers"),
        ({"counts": [200]}, r"must have the image's size \[10, 20\], got None"),
        ({"size": [20, 10], "counts": [200]}, r"must have the image's size \[10, 20\], got \[20, 10\]"),
        ({"size": [10, 20]}, "must have counts"),
        ({"size": [10, 20], "counts": [100, 99]}, "must count 200 pixels, got 199"),
        ({"size": [10, 20], "counts": [300, -100]}, "must count 200 pixels, got 200"),
        ({"size": [10, 20], "counts": "X7"}, "must count 200 pixels, got 232"),
        ({"size": [10, 20], "counts": "X"}, "must have complete counts"),
        ({"size": [10, 20], "counts": "é"}, "must have counts that stand for run lengths"),
    ],
)
def test_what_is_no_mask_is_refused(form: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        masks.from_annotation(form, 10, 20)
