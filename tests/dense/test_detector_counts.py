# SPDX-License-Identifier: Apache-2.0
"""Counts of detectors: the paper's rows, and arithmetic on paper."""

from __future__ import annotations

import re

import pytest
import torch

from slideformer.dense.counts import PUBLISHED_DETECTORS, PublishedDense, count_detector
from slideformer.dense.detector import create_detector
from tests.tiers import fast


def title(row: PublishedDense) -> str:
    return f"{row.head}-{'plain_' if row.host else ''}{row.backbone}"


@pytest.mark.parametrize("row", fast(PUBLISHED_DETECTORS), ids=title)
def test_a_row_of_the_paper_is_met(row: PublishedDense) -> None:
    counts = count_detector(row.head, row.backbone, options={"slide_stages": ()} if row.host else None)
    assert abs(counts.parameters / 1e6 - row.parameters_m) < 1
    assert abs(counts.total / 1e9 / row.multiply_adds_g - 1) < 0.005


def test_parts_are_what_the_shapes_make_them() -> None:
    parts = count_detector("mask_rcnn", "slide_swin_tiny").multiply_adds
    positions = {stride: (800 // stride) * (1280 // stride) for stride in (4, 8, 16, 32)}
    channels = dict(zip(positions, (96, 192, 384, 768), strict=True))
    pyramid = sum(n * (channels[stride] * 256 + 9 * 256 * 256) for stride, n in positions.items())
    every = sum(positions.values()) + 13 * 20  # the coarsest map of 25 x 40 is halved once more
    assert parts["pyramid"] == pyramid
    assert parts["proposals"] == every * (9 * 256 * 256 + 256 * (3 + 12))
    assert parts["boxes"] == 1000 * (49 * 256 * 1024 + 1024 * 1024 + 1024 * 81 * 5)
    mask = 14 * 14 * (4 * 9 * 256 * 256 + 4 * 256 * 256) + 28 * 28 * 256 * 81
    assert parts["masks"] == 100 * mask


def test_a_head_of_one_stage_is_counted_whole() -> None:
    parts = count_detector("retinanet", "slide_swin_tiny").multiply_adds
    positions = [100 * 160, 50 * 80, 25 * 40, 13 * 20, 7 * 10]
    each = 2 * 4 * 9 * 256 * 256 + 9 * 256 * (9 * 80 + 9 * 4)
    assert parts["head"] == sum(positions) * each
    assert "masks" not in parts


def test_a_head_without_masks_has_none_to_count() -> None:
    assert count_detector("faster_rcnn", "slide_swin_nano", (64, 64)).multiply_adds["masks"] == 0


@pytest.mark.parametrize("head", ["mask_rcnn", "cascade_mask_rcnn"])
def test_the_note_tells_what_the_background_adds(head: str) -> None:
    with torch.device("meta"):
        heads = create_detector(head, "slide_swin_nano", 80).roi_heads
    stages = list(getattr(heads, "stages", [heads]))
    parameters = sum(
        4 * (stage.box_predictor.bbox_pred.in_features + 1)
        + stage.mask_predictor.mask_fcn_logits.in_channels
        + 1
        for stage in stages
    )
    work = len(stages) * (1000 * 4 * 1024 + 100 * 28 * 28 * 256)
    (note,) = {row.note for row in PUBLISHED_DETECTORS if row.head == head}
    millions, billions = (float(number) for number in re.findall(r"0\.\d+", note))
    assert millions == round(parameters / 1e6, 3)
    assert billions == round(work / 1e9, 2)
