# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from slideformer.dense.features import Features
from slideformer.errors import UserError

NAMES = ("slide_swin_nano", "slide_pvt_tiny", "swin_tiny_patch4_window7_224", "pvt_v2_b0", "resnet18")


@pytest.mark.parametrize("name", NAMES)
def test_maps_have_the_channels_and_strides_that_are_told(name: str) -> None:
    features = Features(name).eval()
    with torch.no_grad():
        maps = features(torch.rand(1, 3, 96, 160))
    assert [tuple(x.shape) for x in maps] == [
        (1, channels, 96 // stride, 160 // stride)
        for channels, stride in zip(features.channels, features.strides, strict=True)
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stages", [0, 1, 2])
def test_frozen_stages_and_the_stem_get_no_gradient(name: str, stages: int) -> None:
    features = Features(name, frozen_stages=stages).train()
    maps = features(torch.rand(2, 3, 64, 64))
    assert [x.requires_grad for x in maps] == [True] * 4  # each is normalised by weights that are trained
    features.norms = torch.nn.ModuleList(torch.nn.Identity() for _ in maps)
    maps = features(torch.rand(2, 3, 64, 64))
    assert [x.requires_grad for x in maps] == [stage >= stages for stage in range(4)]


def test_an_unknown_backbone_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match="slide_swin_tiny"):
        Features("slide_swin_tinny")


def test_a_foreign_argument_is_told() -> None:
    with pytest.raises(UserError, match="colour"):
        Features("slide_swin_nano", options={"colour": 3})
