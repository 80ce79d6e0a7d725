# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from slideformer.dense.counts import PUBLISHED_SEGMENTERS, PublishedDense, count_segmenter
from slideformer.dense.segmenter import create_segmenter
from tests.tiers import fast


def named(row: PublishedDense) -> str:
    return f"{row.head}-{row.backbone}{'-host' if row.host else ''}"


@pytest.mark.parametrize("row", fast(PUBLISHED_SEGMENTERS), ids=named)
def test_counts_are_the_papers(row: PublishedDense) -> None:
    counts = count_segmenter(row.head, row.backbone, options={"slide_stages": ()} if row.host else None)
    assert abs(counts.parameters / 1e6 - row.parameters_m) < 1
    assert counts.total / 1e9 == pytest.approx(row.multiply_adds_g, rel=0.01)


def test_the_plain_host_counts_as_timms_own_model_does() -> None:
    ours = count_segmenter("upernet", "slide_swin_tiny", options={"slide_stages": ()})
    theirs = count_segmenter("upernet", "swin_tiny_patch4_window7_224")
    assert ours.parameters == theirs.parameters
    assert ours.total == pytest.approx(theirs.total, rel=1e-6)


def test_the_parts_add_up_to_what_one_call_costs() -> None:
    model = create_segmenter("semantic_fpn", "resnet18", 150).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    counts = count_segmenter("semantic_fpn", "resnet18", size_pixels=(64, 64))
    assert counts.total == counter.get_total_flops() // 2
    assert list(counts.multiply_adds) == ["backbone", "head"]


def test_the_auxiliary_head_counts_as_parameters_and_not_as_work() -> None:
    heavy, light = (create_segmenter("upernet", "resnet18", 150, auxiliary_channels=n) for n in (256, 0))
    head = 256 * (256 * 9 + 2) + 256 * 150 + 150  # 3 x 3 over 256 channels, normalisation, classifier
    sizes = [sum(p.numel() for p in model.parameters()) for model in (heavy, light)]
    assert sizes[0] - sizes[1] == head
    assert count_segmenter("upernet", "resnet18", size_pixels=(64, 64)).parameters == sizes[0]
