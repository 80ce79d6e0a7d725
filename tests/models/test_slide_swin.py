# SPDX-License-Identifier: Apache-2.0
"""Slide-Swin: it is Swin where it does not slide, takes every size, and does what timm asks of a model."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor

import slideformer.models as models
from slideformer.models import SlideSwin
from tests.models.families import kinds

SMALL = {"embed_dim": 8, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4, "num_classes": 5}


def from_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of timm's Swin by our names."""
    return {
        name.replace("layers.", "stages.").replace(".attn.", ".attention."): tensor
        for name, tensor in state.items()
    }


@pytest.mark.parametrize("size", [(64, 64), (60, 92)], ids=str)
def test_without_slide_stages_it_is_swin(size: tuple[int, int]) -> None:
    shape = {"embed_dim": 8, "depths": (2, 2, 2), "num_heads": (2, 2, 4), "window_size": 4, "num_classes": 5}
    theirs = SwinTransformer(img_size=size, **shape).eval()
    ours = SlideSwin(slide_stages=(), **shape).eval()
    ours.load_state_dict(from_timm(theirs.state_dict()))
    image = torch.randn(2, 3, *size)
    torch.testing.assert_close(ours(image), theirs(image), atol=1e-5, rtol=1e-5)


def test_the_first_two_stages_slide_and_windows_shift_in_every_second_block() -> None:
    model = timm.create_model("slide_swin_tiny")
    assert kinds(model) == [["Slide"] * 2, ["Slide"] * 2, ["Window"] * 6, ["Window"] * 2]
    assert [block.attention.shift for block in model.stages[2].blocks] == [0, 3, 0, 3, 0, 3]


def test_each_stage_may_have_its_own_window() -> None:
    model = SlideSwin(slide_stages=(), **{**SMALL, "window_size": (4, 2)})
    assert [stage.blocks[0].attention.window_size for stage in model.stages] == [4, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": (2,)}, r"one entry for each stage, got \(2, 2\) and \(2,\)"),
        ({"window_size": (4, 4, 4)}, r"one entry for each stage, got \(2, 2\), \(2, 4\) and \(4, 4, 4\)"),
        ({"slide_stages": (1, 2)}, r"slide_stages must be from 0, the first, to 1, got \(1, 2\)"),
        ({"num_heads": (3, 4)}, "dim must be a multiple of num_heads, got dim=8 and num_heads=3"),
    ],
    ids=["heads", "windows", "slide_stages", "dim"],
)
def test_stages_that_do_not_fit_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SlideSwin(**{**SMALL, **arguments})


def test_stochastic_depth_grows_with_depth() -> None:
    model = SlideSwin(drop_path_rate=0.3, **SMALL)
    rates = [block.drop_path.drop_prob for stage in model.stages for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_linear_layers_start_as_in_swin_and_the_learned_shift_as_its_convolution() -> None:
    attention = timm.create_model("slide_swin_tiny").stages[0].blocks[0].attention
    assert 0.015 < attention.qkv.weight.std() < 0.025
    assert attention.qkv.bias.abs().max() == 0
    assert attention.shift.weight.abs().max().item() == pytest.approx(1 / 3, rel=1e-2)


def test_weight_decay_leaves_position_biases_alone() -> None:
    names = SlideSwin(**SMALL, slide_stages=(0,)).no_weight_decay()
    assert {name.split("attention.")[1] for name in names} == {
        "key_bias",
        "shift.bias",
        "relative_position_bias_table",
    }


def test_chosen_features_alone_are_built_and_returned() -> None:
    model = timm.create_model("slide_swin_nano", features_only=True, out_indices=(0, 2))
    assert [y.shape[1] for y in model(torch.randn(1, 3, 32, 32))] == [32, 128]
    assert len(model.model.stages) == 3


@pytest.mark.parametrize("indices", [[4], [-5], 5, []], ids=str)
def test_a_stage_that_does_not_exist_is_refused(indices: int | list[int]) -> None:
    with pytest.raises(ValueError, match="indices must be stages from -4 to 3, got"):
        timm.create_model("slide_swin_nano").forward_intermediates(torch.zeros(1, 3, 32, 32), indices)


def test_an_unknown_layout_of_features_is_refused() -> None:
    with pytest.raises(ValueError, match="output_fmt must be 'NCHW' or 'NHWC', got 'NLC'"):
        SlideSwin(**SMALL).forward_intermediates(torch.zeros(1, 3, 32, 32), output_fmt="NLC")


def test_merging_is_refused_in_training_mode() -> None:
    with pytest.raises(RuntimeError, match="got training mode"):
        models.reparameterize(SlideSwin(**SMALL))
