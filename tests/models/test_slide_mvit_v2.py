# SPDX-License-Identifier: Apache-2.0
"""Slide-MViTv2: which blocks pool, and the plain host at sizes that timm's is not made for."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.mvitv2 import MultiScaleVit
from torch import nn

from slideformer.models import load_host
from tests.models.families import kinds, small


def test_blocks_that_change_the_map_pool_and_the_others_slide() -> None:
    slide, pool = "Slide", "Pooling"
    model = timm.create_model("slide_mvit_v2_tiny")
    assert kinds(model) == [[slide], [pool, slide], [pool] * 5, [pool] * 2]
    everywhere = timm.create_model("slide_mvit_v2_tiny", slide_stages=(0, 1, 2, 3))
    assert kinds(everywhere) == [[slide], [pool, slide], [pool, *[slide] * 4], [pool, slide]]


def resize_tables(model: MultiScaleVit, size: tuple[int, int]) -> None:
    """Give timm's model the tables for images of a size, by its own interpolation.

    It makes them for square images alone and reads them from the start on smaller ones, whose distances
    then are not those that were learned; but it takes whatever tables it has.
    """
    maps = [[-(-side // (4 * 2**stage)) for side in size] for stage in range(4)]
    for stage, here in enumerate(maps):
        for number, block in enumerate(model.stages[stage].blocks):
            before = maps[stage - 1] if stage and not number else here
            key_stride = block.attn.pool_k.stride[0]
            for name, queries, side in zip(("rel_pos_h", "rel_pos_w"), here, before, strict=True):
                length = 2 * max(queries, -(-side // key_stride)) - 1
                table = getattr(block.attn, name).detach()
                resized = F.interpolate(table.t()[None], size=length, mode="linear")[0].t()
                setattr(block.attn, name, nn.Parameter(resized))


@pytest.mark.parametrize("size", [(180, 212), (65, 250)], ids=str)
def test_at_every_size_the_host_is_timms_with_tables_of_that_size(size: tuple[int, int]) -> None:
    theirs = timm.create_model("mvitv2_tiny").eval()
    for name, p in theirs.named_parameters():
        if "rel_pos" in name:
            nn.init.normal_(p, std=0.2)
    ours, image = timm.create_model("slide_mvit_v2_tiny", slide_stages=()).eval(), torch.randn(1, 3, *size)
    load_host(ours, theirs.state_dict())
    resize_tables(theirs, size)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), atol=1e-5, rtol=0)


def test_tables_are_made_for_the_image_size_and_need_not_be_square() -> None:
    model = small("slide_mvit_v2_tiny", slide_stages=(), img_size=(64, 100))
    tables = [
        (len(attention.relative_position_rows), len(attention.relative_position_columns))
        for attention in (stage.blocks[0].attention for stage in model.stages)
    ]
    # On maps of 16 x 25, 8 x 13, 4 x 7 and 2 x 4; what pools the third and fourth has keys of the map before.
    assert tables == [(31, 49), (15, 25), (15, 25), (7, 13)]


def test_weight_decay_leaves_relative_positions_alone() -> None:
    names = small("slide_mvit_v2_tiny").no_weight_decay()
    assert "stages.2.blocks.0.attention.relative_position_rows" in names
    assert "stages.2.blocks.0.attention.relative_position_columns" in names
