# SPDX-License-Identifier: Apache-2.0
"""Slide-Swin: it is Swin where it does not slide, takes every size, and does what timm asks of a model."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

import slideformer.models as models
from slideformer.layers.slide_attention import SlideAttention
from slideformer.layers.window_attention import WindowAttention
from slideformer.models import SlideSwin
from slideformer.models.slide_swin import VARIANTS

SMALL = {"embed_dim": 8, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4, "num_classes": 5}


def kinds(model: nn.Module) -> list[list[str]]:
    """The kind of attention of every block, by stage."""
    return [[type(block.attention).__name__ for block in stage.blocks] for stage in model.stages]


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
    slide, window = SlideAttention.__name__, WindowAttention.__name__
    assert kinds(model) == [[slide] * 2, [slide] * 2, [window] * 6, [window] * 2]
    assert [block.attention.shift for block in model.stages[2].blocks] == [0, 3, 0, 3, 0, 3]


def test_slide_stages_are_an_argument() -> None:
    model = SlideSwin(slide_stages=(1,), **SMALL)
    assert kinds(model) == [["WindowAttention"] * 2, ["SlideAttention"] * 2]


def test_each_stage_may_have_its_own_window() -> None:
    model = SlideSwin(slide_stages=(), **{**SMALL, "window_size": (4, 2)})
    assert [stage.blocks[0].attention.window_size for stage in model.stages] == [4, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": (2,)}, r"one entry for each stage, got \(2, 2\), \(2,\) and \(4, 4\)"),
        ({"window_size": (4, 4, 4)}, r"one entry for each stage, got \(2, 2\), \(2, 4\) and \(4, 4, 4\)"),
        ({"slide_stages": (1, 2)}, r"slide_stages must be from 0, the first, to 1, got \(1, 2\)"),
        ({"num_heads": (3, 4)}, "dim must be a multiple of num_heads, got dim=8 and num_heads=3"),
    ],
    ids=["heads", "windows", "slide_stages", "dim"],
)
def test_stages_that_do_not_fit_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SlideSwin(**{**SMALL, **arguments})


@pytest.mark.parametrize("size", [(32, 32), (33, 45), (7, 90), (1, 1)], ids=str)
def test_one_model_takes_images_of_every_size(size: tuple[int, int]) -> None:
    model = timm.create_model("slide_swin_nano", num_classes=5).eval()
    logits = model(torch.randn(2, 3, *size))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


def test_every_parameter_gets_a_gradient() -> None:
    model = timm.create_model("slide_swin_nano", num_classes=5)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_gradient_checkpointing_changes_no_gradient() -> None:
    model, image = SlideSwin(drop_path_rate=0.0, **SMALL), torch.randn(2, 3, 16, 20)
    model(image).sum().backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    model.set_grad_checkpointing()
    model(image).sum().backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], msg=name)


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


def test_layers_are_grouped_from_stem_to_head() -> None:
    model = timm.create_model("slide_swin_nano")
    groups = timm.models.group_parameters(model, model.group_matcher(), return_values=False, reverse=True)
    assert groups["patch_embed.proj.weight"] == 0
    assert groups["stages.0.blocks.0.attention.key_bias"] < groups["stages.3.blocks.0.mlp.fc1.weight"]
    assert groups["stages.3.blocks.0.mlp.fc1.weight"] <= groups["norm.weight"] <= groups["head.fc.weight"]


def test_features_are_one_map_a_stage() -> None:
    model = timm.create_model("slide_swin_nano", features_only=True)
    shapes = [tuple(y.shape) for y in model(torch.randn(1, 3, 33, 47))]
    assert shapes == [(1, 32, 17, 24), (1, 64, 9, 12), (1, 128, 5, 6), (1, 256, 3, 3)]
    assert model.feature_info.reduction() == [2, 4, 8, 16]


def test_chosen_features_alone_are_built_and_returned() -> None:
    model = timm.create_model("slide_swin_nano", features_only=True, out_indices=(0, 2))
    assert [y.shape[1] for y in model(torch.randn(1, 3, 32, 32))] == [32, 128]
    assert len(model.model.stages) == 3


def test_intermediates_agree_with_the_features_of_the_model() -> None:
    model, image = timm.create_model("slide_swin_nano").eval(), torch.randn(1, 3, 32, 40)
    last, maps = model.forward_intermediates(image, norm=True)
    torch.testing.assert_close(last, model.forward_features(image))
    torch.testing.assert_close(maps[-1].permute(0, 2, 3, 1), last)
    (only,) = model.forward_intermediates(
        image, indices=[1], output_fmt="NHWC", stop_early=True, intermediates_only=True
    )
    torch.testing.assert_close(only.permute(0, 3, 1, 2), maps[1])


@pytest.mark.parametrize("indices", [[4], [-5], 5, []], ids=str)
def test_a_stage_that_does_not_exist_is_refused(indices: int | list[int]) -> None:
    with pytest.raises(ValueError, match="indices must be stages from -4 to 3, got"):
        timm.create_model("slide_swin_nano").forward_intermediates(torch.zeros(1, 3, 32, 32), indices)


def test_an_unknown_layout_of_features_is_refused() -> None:
    with pytest.raises(ValueError, match="output_fmt must be 'NCHW' or 'NHWC', got 'NLC'"):
        SlideSwin(**SMALL).forward_intermediates(torch.zeros(1, 3, 32, 32), output_fmt="NLC")


def test_a_new_classifier_keeps_pooling_dtype_and_mode() -> None:
    model = SlideSwin(**SMALL).double().eval()
    model.reset_classifier(7)
    assert model(torch.zeros(1, 3, 16, 16, dtype=torch.float64)).shape == (1, 7)
    assert model.get_classifier() is model.head.fc
    assert not model.head.training
    model.reset_classifier(0, "")
    assert model(torch.zeros(1, 3, 16, 16, dtype=torch.float64)).shape == (1, 2, 2, 16)


def test_merging_changes_no_output() -> None:
    model = timm.create_model("slide_swin_nano", num_classes=5).eval()
    merged = models.reparameterize(model)
    for scale in (1e-3, 1.0, 1e2):
        image = scale * torch.randn(2, 3, 37, 29)
        assert (merged(image) - model(image)).abs().max() < 1e-5
    assert models.is_merged(merged)
    assert not models.is_merged(model)


def test_merging_is_refused_in_training_mode() -> None:
    with pytest.raises(RuntimeError, match="got training mode"):
        models.reparameterize(SlideSwin(**SMALL))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_in_timms_registry(name: str) -> None:
    assert timm.is_model(name)
    config = timm.get_pretrained_cfg(name)
    assert config.input_size == (3, VARIANTS[name].img_size, VARIANTS[name].img_size)
    assert timm.create_model(name, device="meta", dtype=torch.float16).norm.weight.dtype == torch.float16
