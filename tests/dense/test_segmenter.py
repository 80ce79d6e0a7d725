# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from slideformer.dense.segmentation_heads import AreaPool
from slideformer.dense.segmenter import HEADS, Segmenter, create_segmenter
from slideformer.errors import UserError
from slideformer.models import is_merged, reparameterize

BACKBONES = ("slide_swin_nano", "slide_pvt_tiny", "swin_tiny_patch4_window7_224", "resnet18")


def small(head: str = "semantic_fpn", backbone: str = "slide_swin_nano", **arguments: Any) -> Segmenter:
    extra = {"head_channels": 8} if head == "semantic_fpn" else {"auxiliary_channels": 8}
    torch.manual_seed(0)
    return create_segmenter(head, backbone, 5, channels=16, **{**extra, **arguments})


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("size", [(64, 96), (33, 70)], ids=["fits", "odd"])
@torch.no_grad()
def test_every_pixel_gets_its_logits(head: str, backbone: str, size: tuple[int, int]) -> None:
    model = small(head, backbone).eval()
    assert model(torch.rand(2, 3, *size)).shape == (2, 5, *size)


@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_a_picture_padded_by_its_mean_colour_gets_the_same_logits(head: str) -> None:
    model = small(head).eval()
    picture = torch.rand(1, 3, 50, 41)
    padded = model.features.mean.expand(1, 3, 64, 48).clone()
    padded[..., :50, :41] = picture
    torch.testing.assert_close(model(picture), model(padded)[..., :50, :41])


def test_training_gives_the_same_logits_and_the_auxiliary_ones() -> None:
    model = small("upernet").eval()
    images = torch.rand(2, 3, 40, 48)
    logits, auxiliary = model.forward_train(images)
    torch.testing.assert_close(logits, model(images))
    assert auxiliary is not None
    assert auxiliary.shape == logits.shape


def test_every_weight_learns() -> None:
    for head in HEADS:
        model = small(head).train()
        logits, auxiliary = model.forward_train(torch.rand(2, 3, 64, 64))
        (logits.square().mean() + (0.0 if auxiliary is None else auxiliary.square().mean())).backward()
        idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        # A convolution's bias just before its normalisation, or a key's before the softmax, moves nothing.
        assert [name for name in idle if not name.endswith("bias")] == []


@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_a_merged_segmenter_is_the_same_function(head: str) -> None:
    model = small(head).eval()
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    images = torch.rand(1, 3, 40, 64)
    merged = reparameterize(model)
    assert is_merged(merged)
    torch.testing.assert_close(merged(images), model(images), rtol=1e-4, atol=1e-5)


def test_the_pyramid_and_the_head_add_up_as_semantic_fpn_says() -> None:
    """The definition, written level by level with plain convolutions."""
    model = small(head_channels=8).eval()
    images = torch.rand(1, 3, 32, 48)
    maps = model.features(images)
    pyramid = model.head.pyramid
    level = pyramid.inner_blocks[3](maps[3])
    levels = [pyramid.layer_blocks[3](level)]
    for index in (2, 1, 0):
        level = pyramid.inner_blocks[index](maps[index]) + level.repeat_interleave(2, 2).repeat_interleave(
            2, 3
        )
        levels.insert(0, pyramid.layer_blocks[index](level))
    upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    wanted: Tensor | float = 0.0
    for index, x in enumerate(levels):
        for convolution in model.head.branches[index].convolutions:
            x = convolution(x) if index == 0 else upsample(convolution(x))
        wanted = wanted + x
    torch.testing.assert_close(model.head(maps), wanted)


@pytest.mark.parametrize("cells", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(5, 7), (16, 64), (2, 3), (13, 6)], ids=str)
def test_means_of_cells_are_adaptive_pooling(cells: int, size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(AreaPool(cells)(x), nn.AdaptiveAvgPool2d(cells)(x))


def test_the_backbones_arguments_reach_it() -> None:
    model = small(frozen_stages=2, options={"slide_stages": (0,)})
    kinds = [{type(m).__name__ for m in stage.modules()} for stage in model.features.model.stages]  # type: ignore[union-attr]
    assert ["SlideAttention" in names for names in kinds] == [True, False, False, False]
    frozen = [not any(p.requires_grad for p in stage.parameters()) for stage in model.features.model.stages]  # type: ignore[union-attr]
    assert frozen == [True, True, False, False]


@pytest.mark.parametrize(
    ("head", "arguments", "words"),
    [
        ("upernett", {}, "did you mean upernet"),
        ("deeplab", {}, "must be one of semantic_fpn, upernet, got 'deeplab'; choose one"),
        ("semantic_fpn", {"colour": 3}, "got colour; it takes .*head_channels"),
        ("upernet", {"head_channels": 3}, "got head_channels"),
        ("semantic_fpn", {"channels": 0}, "channels must be at least 1, got 0"),
        ("semantic_fpn", {"dropout": 1.5}, "dropout must be from 0 to 0.999, got 1.5"),
        ("semantic_fpn", {"backbone": "slide_swin_tinny"}, "slide_swin_tiny"),
    ],
)
def test_what_cannot_be_built_is_told(head: str, arguments: dict[str, Any], words: str) -> None:
    backbone = arguments.pop("backbone", "slide_swin_nano")
    with pytest.raises(UserError, match=words):
        create_segmenter(head, backbone, 5, **arguments)


def test_one_class_is_refused() -> None:
    with pytest.raises(UserError, match="num_classes must be at least 2, got 1"):
        create_segmenter("semantic_fpn", "slide_swin_nano", 1)


def test_upernet_says_that_it_needs_two_pictures_to_train_on() -> None:
    with pytest.raises(UserError, match="two images a batch or more"):
        small("upernet").train().forward_train(torch.rand(1, 3, 32, 32))


def test_without_the_library_upernet_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch.decoders.upernet.decoder", None)
    with pytest.raises(UserError, match=r"pip install 'slideformer\[segment\]'"):
        small("upernet")
