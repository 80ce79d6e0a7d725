# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from torch import nn

from slideformer.dense.detector import HEADS
from slideformer.dense.segmenter import create_segmenter
from slideformer.tasks.training.optimise import Optimise, build_optimiser
from tests.dense.small_detectors import small


def model_of(head: str) -> nn.Module:
    if head in HEADS:
        return small(head)
    return create_segmenter(head, "slide_swin_nano", 3, channels=8)


def rates_and_decays(model: nn.Module, options: Optimise) -> dict[str, tuple[float, float]]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: (group.get("lr_scale", 1.0), group["weight_decay"])
        for group in build_optimiser(model, options, 1).param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("head", [*HEADS, "semantic_fpn", "upernet"])
def test_rates_fall_by_layer_of_the_backbone_and_not_in_the_head(head: str) -> None:
    told = rates_and_decays(model_of(head), Optimise(layer_decay=0.5, weight_decay=0.1))
    rates = {name: rate for name, (rate, _) in told.items()}
    inside = {name.partition("features.model.")[2]: rate for name, rate in rates.items()}
    outside = {rate for name, rate in rates.items() if "features.model." not in name}
    blocks = [inside[name] for name in inside if name.endswith("norm1.weight")]
    assert outside == {1.0}
    assert blocks == [0.5 ** (len(blocks) - number) for number in range(len(blocks))]
    assert inside["patch_embed.proj.weight"] == 0.5 * blocks[0]


@pytest.mark.parametrize("head", [*HEADS, "semantic_fpn", "upernet"])
@pytest.mark.parametrize("layer_decay", [None, 0.9])
def test_what_the_backbone_exempts_does_not_decay(head: str, layer_decay: float | None) -> None:
    told = rates_and_decays(model_of(head), Optimise(layer_decay=layer_decay, weight_decay=0.1))
    tables = [decay for name, (_, decay) in told.items() if name.endswith("relative_position_bias_table")]
    assert tables
    assert set(tables) == {0.0}
    assert {decay for _, decay in told.values()} == {0.0, 0.1}
