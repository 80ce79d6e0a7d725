# SPDX-License-Identifier: Apache-2.0
"""Slide-PVTv2: its norms, its start, and its variants."""

from __future__ import annotations

import pytest
import timm
import torch

from tests.models.families import small

NAME = "slide_pvt_v2_b1"


def test_each_stage_ends_in_a_norm() -> None:
    model = small(NAME)
    for y in model.forward_intermediates(torch.randn(1, 3, 64, 64), intermediates_only=True):
        torch.testing.assert_close(y.mean(1), torch.zeros_like(y[:, 0]), atol=1e-5, rtol=0)


def test_convolutions_start_by_their_fan_out() -> None:
    model = small(NAME, embed_dims=(64, 64, 64, 64))
    depthwise = model.stages[0].blocks[0].mlp.depthwise
    assert depthwise.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.1)
    assert depthwise.bias.abs().max() == 0


def test_the_norm_of_a_stage_learns_as_fast_as_its_last_block() -> None:
    model = small(NAME, depths=(1, 2, 1, 1))
    groups = timm.models.group_parameters(model, model.group_matcher(), return_values=False, reverse=True)
    first, last = (groups[f"stages.1.blocks.{block}.mlp.fc1.weight"] for block in (0, 1))
    assert first < last == groups["stages.1.norm.weight"]
