# SPDX-License-Identifier: Apache-2.0
"""Other libraries find our models through timm."""

from __future__ import annotations

import subprocess
import sys

import pytest
import timm
import torch

import slideformer.models  # noqa: F401  (registers the models)


def test_importing_the_package_registers_the_models() -> None:
    code = "import timm, slideformer.models; print(*timm.list_models('slide_*'))"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == [
        "slide_swin_base",
        "slide_swin_nano",
        "slide_swin_small",
        "slide_swin_tiny",
    ]


def test_the_entrypoint_is_a_function_of_the_family() -> None:
    entrypoint = timm.model_entrypoint("slide_swin_nano")
    assert (entrypoint.__module__, entrypoint.__name__) == (
        "slideformer.models.slide_swin",
        "slide_swin_nano",
    )


def test_hugging_face_takes_a_model_as_backbone() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.TimmBackboneConfig(
        backbone="slide_swin_nano", use_pretrained_backbone=False, out_indices=(0, 1, 2, 3)
    )
    features = transformers.TimmBackbone(config)(torch.randn(1, 3, 32, 48)).feature_maps
    assert [tuple(y.shape) for y in features] == [
        (1, 32, 16, 24),
        (1, 64, 8, 12),
        (1, 128, 4, 6),
        (1, 256, 2, 3),
    ]


def test_segmentation_models_take_a_model_as_encoder() -> None:
    segmentation = pytest.importorskip("segmentation_models_pytorch")
    model = segmentation.Unet("tu-slide_swin_tiny", encoder_weights=None, classes=2).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 64, 96)).shape == (1, 2, 64, 96)
