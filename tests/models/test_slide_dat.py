# SPDX-License-Identifier: Apache-2.0
"""Slide-DAT: which blocks are local, and what a block adds up."""

from __future__ import annotations

import pytest
import timm
import torch

from tests.models.families import kinds, small

NAME = "slide_dat_tiny"


def test_every_second_block_is_local_but_in_the_last_stage() -> None:
    model = timm.create_model(NAME, device="meta")
    slide, local, deformable = "Slide", "Neighborhood", "Deformable"
    four = [slide, deformable] * 2
    assert kinds(model) == [[slide, deformable], four, [slide, deformable] * 9, [deformable] * 2]
    host = timm.create_model(NAME, device="meta", slide_stages=(1,))
    assert kinds(host) == [[local, deformable], four, [local, deformable] * 9, [deformable] * 2]


def test_the_last_stage_has_nothing_to_slide() -> None:
    with pytest.raises(ValueError, match=r"to 2, because .* no local attention, got \(0, 3\)"):
        small(NAME, slide_stages=(0, 3))


def test_a_block_adds_perception_attention_and_perceptron() -> None:
    block, x = small(NAME).stages[0].blocks[1], torch.randn(2, 9, 7, 16)
    y = x + block.perception(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    y = y + block.attention(block.norm1(y))
    torch.testing.assert_close(block(x), y + block.mlp(block.norm2(y)))


def test_position_biases_are_made_for_the_image_size_and_need_not_be_square() -> None:
    model = small(NAME, img_size=(64, 100))
    tables = [stage.blocks[-1].attention.relative_position_bias_table for stage in model.stages]
    # On maps of 16 x 25, 8 x 13, 4 x 7 and 2 x 4.
    assert [tuple(table.shape) for table in tables] == [(2, 31, 49), (2, 15, 25), (4, 7, 13), (4, 3, 7)]


def test_weight_decay_leaves_position_biases_alone() -> None:
    assert "stages.0.blocks.1.attention.relative_position_bias_table" in small(NAME).no_weight_decay()
