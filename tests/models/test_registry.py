# SPDX-License-Identifier: Apache-2.0
"""Other libraries find our models through timm."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork

import slideformer.models  # noqa: F401  (registers the models)
from tests.models.families import FAMILIES, small
from tests.tiers import fast


def test_the_entrypoint_is_a_function_of_the_family() -> None:
    entrypoint = timm.model_entrypoint("slide_swin_nano")
    assert (entrypoint.__module__, entrypoint.__name__) == (
        "slideformer.models.slide_swin",
        "slide_swin_nano",
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_an_argument_that_no_family_has_is_named(name: str) -> None:
    with pytest.raises(TypeError, match="unexpected argument 'kernel_sise'; all families take img_size, "):
        small(name, kernel_sise=5)


@pytest.mark.parametrize("name", FAMILIES)
def test_device_dtype_and_colours_are_timms_arguments(name: str) -> None:
    model = small(name, device="meta", dtype=torch.float16, in_chans=1)
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {("meta", torch.float16)}
    first = model.get_submodule(model.pretrained_cfg["first_conv"])
    assert isinstance(first, nn.Conv2d)
    assert first.in_channels == 1


@pytest.mark.parametrize("name", fast(FAMILIES))
def test_hugging_face_takes_a_model_as_backbone(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.TimmBackboneConfig(
        backbone=name, use_pretrained_backbone=False, out_indices=(0, 1, 2, 3)
    )
    features = transformers.TimmBackbone(config)(torch.randn(1, 3, 64, 96)).feature_maps
    assert [tuple(y.shape[2:]) for y in features] == [(16, 24), (8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize("name", FAMILIES)
def test_torchvision_detects_on_the_features_of_a_model(name: str) -> None:
    body = small(name, features_only=True)
    pyramid = FeaturePyramidNetwork(body.feature_info.channels(), 16)

    class Backbone(nn.Module):
        out_channels = 16

        def __init__(self) -> None:
            super().__init__()
            self.body, self.pyramid = body, pyramid

        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            return self.pyramid(dict(zip("0123", self.body(image), strict=True)))

    anchors = AnchorGenerator(sizes=((16,), (32,), (64,), (128,)), aspect_ratios=((1.0,),) * 4)
    detector = FasterRCNN(
        Backbone(), num_classes=3, rpn_anchor_generator=anchors, min_size=64, max_size=96
    ).eval()
    (found,) = detector([torch.rand(3, 64, 90)])
    assert found["boxes"].shape == (len(found["scores"]), 4)


@pytest.mark.parametrize("name", fast(FAMILIES))
def test_segmentation_models_take_a_model_as_encoder(name: str) -> None:
    segmentation = pytest.importorskip("segmentation_models_pytorch")
    model = segmentation.Unet(f"tu-{name}", encoder_weights=None, classes=2).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 64, 96)).shape == (1, 2, 64, 96)
