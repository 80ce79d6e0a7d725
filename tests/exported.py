# SPDX-License-Identifier: Apache-2.0
"""Runs with an ONNX file for any size next to them, which several tests read and none changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from slideformer.cli.main import main
from slideformer.layers import SlideAttention
from slideformer.runs import Run, save_run
from tests.dense.small_detectors import small_run
from tests.saved import save_classifier
from tests.shared import made_once

CLASSES = ("ant", "bee", "cat", "dog", "elk")
CATEGORY_IDS = (10, 20, 30)
# One block, which slides, on images of 32 x 32: what takes long to export are the blocks.
ONE_BLOCK: dict[str, Any] = {
    "img_size": 32,
    "embed_dim": 8,
    "depths": (1,),
    "num_heads": (2,),
    "slide_stages": (0,),
}
TWO_STAGES: dict[str, Any] = {**ONE_BLOCK, "depths": (1, 1), "num_heads": (2, 4), "slide_stages": (0, 1)}


def classifier_of_one_block(class_names: Sequence[str]) -> nn.Module:
    """A classifier, the same always, with logits that differ by more than rounding."""
    torch.manual_seed(0)
    model = timm.create_model("slide_swin_tiny", num_classes=len(class_names), **ONE_BLOCK)
    nn.init.normal_(model.head.fc.weight)
    return model


def write_classifier(folder: Path) -> None:
    """Save the classifier and export it."""
    model = classifier_of_one_block(CLASSES)
    save_classifier(model, folder, class_names=CLASSES, input_size=(3, 32, 32))
    export(folder)


def write_inspected(folder: Path) -> None:
    """Save a classifier of two stages that slide, and export it with its attention weights."""
    torch.manual_seed(0)
    model = timm.create_model("slide_swin_tiny", num_classes=len(CLASSES), **TWO_STAGES)
    for module in model.modules():
        # Sharper than a fresh model's, so that positions and heads differ.
        if isinstance(module, SlideAttention):
            nn.init.normal_(module.qkv.weight, std=0.5)
            nn.init.normal_(module.key_bias)
    nn.init.normal_(model.head.fc.weight)
    save_classifier(model, folder, class_names=CLASSES, input_size=(3, 32, 32))
    export(folder, "--with", "attention")


def retinanet(**arguments: object) -> Run:
    """A small RetinaNet whose scores and boxes differ by more than rounding, the same always."""
    options = {"depths": (1, 1, 1, 1), "embed_dim": 16, "num_heads": (1, 1, 2, 2)}
    run = small_run("retinanet", fpn_channels=8, options=options, **arguments)
    for head in (run.model.head.classification_head, run.model.head.regression_head):
        for module in head.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    return replace(run, class_names=CLASSES[:3], category_ids=CATEGORY_IDS)


def region_detector(head: str = "mask_rcnn", **arguments: object) -> Run:
    """A small detector of two stages whose scores, boxes and masks differ by more than rounding."""
    run = small_run(head, "resnet10t", fpn_channels=8, **arguments)
    heads = run.model.roi_heads
    for part in (run.model.rpn.head, *getattr(heads, "stages", [heads])):
        for name, module in part.named_modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) and "box_head" not in name:
                nn.init.kaiming_normal_(module.weight)
                # Some are surer than a half.
                module.weight.data *= 3 if name.endswith("cls_score") else 1
    return replace(run, class_names=CLASSES[:3], category_ids=CATEGORY_IDS)


def write_mask_detector(folder: Path) -> None:
    """Save the Mask R-CNN and export it."""
    save_run(region_detector(), folder)
    export(folder)


def write_detector(folder: Path) -> None:
    """Save the RetinaNet and export it."""
    save_run(retinanet(), folder)
    export(folder)


def export(folder: Path, *words: str) -> None:
    """Write the file next to a run, as a user does."""
    assert main(["export", str(folder), "--to", "onnx", *words]) == 0


def exported_classifier(factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that classifies, with ``model.onnx``; not to be changed."""
    return made_once(factory, "exported classifier", write_classifier)


def exported_with_attention(factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two layers, with ``model.onnx`` that gives their weights; not to be changed."""
    return made_once(factory, "exported with attention", write_inspected)


def exported_detector(factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that detects, with ``model.onnx``; not to be changed."""
    return made_once(factory, "exported detector", write_detector)


def exported_mask_detector(factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that detects with masks, with ``model.onnx``; not to be changed."""
    return made_once(factory, "exported mask detector", write_mask_detector)
