# SPDX-License-Identifier: Apache-2.0
"""Detectors and a segmenter of transformers learn over our backbones, and come back from a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import slideformer.models  # noqa: F401  registers the models
from tests.saved import save_classifier
from tests.tiers import fast

transformers = pytest.importorskip("transformers")

NAME = "slide_swin_nano"
IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
BOXES = [
    {
        "class_labels": torch.tensor([0, 1]),
        "boxes": torch.tensor([[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.3, 0.4]]),
    },
    {"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.4, 0.4]])},
]
LABEL_MAPS = torch.arange(2 * 64 * 96).reshape(2, 64, 96) // 500 % 3
SMALL = {
    "num_queries": 10,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "num_labels": 2,
}


@dataclass(frozen=True)
class Row:
    """A model of transformers.

    Attributes:
        name: of its class, without the task.
        task: the rest of the name.
        stages: whose maps it takes.
        options: of its configuration.
        unwraps: whether it takes the backbone out of the wrapper that restores constants.
        backbone: path of our model in it.
        targets: that it learns.
    """

    name: str
    task: str
    stages: tuple[int, ...]
    options: dict[str, Any]
    unwraps: bool
    backbone: str
    targets: Any

    def build(self) -> Any:
        """The model, the same always."""
        torch.manual_seed(0)
        backbone = transformers.TimmBackboneConfig(backbone=NAME, out_indices=list(self.stages))
        config = getattr(transformers, f"{self.name}Config")(backbone_config=backbone, **self.options)
        return getattr(transformers, self.name + self.task)(config)


def detr(name: str, *stages: int, **options: Any) -> Row:
    """A row of the family that unwraps its backbone."""
    task, path = "ForObjectDetection", "model.backbone.model.model"
    return Row(name, task, stages, {**SMALL, **options}, True, path, BOXES)


RT_DETR: dict[str, Any] = {
    **SMALL,
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [64, 128, 256],
    "decoder_in_channels": [32, 32, 32],
    "num_denoising": 4,
}
ROWS = {
    "rt_detr": Row(
        "RTDetr",
        "ForObjectDetection",
        (1, 2, 3),
        RT_DETR,
        False,
        "model.backbone.model._backbone.model",
        BOXES,
    ),
    "detr": detr("Detr", 3),
    "conditional_detr": detr("ConditionalDetr", 3),
    "deformable_detr": detr("DeformableDetr", 1, 2, 3, num_feature_levels=4),
    "upernet": Row(
        "UperNet",
        "ForSemanticSegmentation",
        (0, 1, 2, 3),
        {"hidden_size": 16, "num_labels": 3, "use_auxiliary_head": False},
        False,
        "backbone._backbone.model",
        LABEL_MAPS,
    ),
}


@pytest.mark.parametrize("name", fast(ROWS, "rt_detr"))
def test_a_training_step_reaches_every_weight_of_our_backbone(name: str) -> None:
    row = ROWS[name]
    model = row.build()
    loss = model(pixel_values=IMAGES, labels=row.targets).loss
    assert torch.isfinite(loss)
    loss.backward()
    backbone = model.get_submodule(row.backbone)
    assert type(backbone) is type(timm.create_model(NAME))
    # The last norm and the head are left out of a backbone; a weight may have zeros, but not only.
    still = [n for n, w in backbone.named_parameters() if w.grad is None or not w.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", fast(ROWS, "rt_detr", "detr"))
def test_a_saved_model_comes_back(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    model = row.build().eval()
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    if row.unwraps:  # which leaves constants of the backbone without a value: as the page says
        for module in again.modules():
            if hasattr(module, "init_non_persistent_buffers"):
                module.init_non_persistent_buffers()
    with torch.no_grad():
        assert torch.equal(again(pixel_values=IMAGES).logits, model(pixel_values=IMAGES).logits)


def test_a_detector_takes_the_weights_of_a_run(tmp_path: Path) -> None:
    own = timm.create_model(NAME, num_classes=5)
    save_classifier(own, tmp_path)
    model = ROWS["rt_detr"].build()
    stages = ROWS["rt_detr"].stages
    model.model.backbone.model = transformers.TimmBackbone.from_pretrained(
        f"local-dir:{tmp_path}", out_indices=stages
    )
    model.eval()
    with torch.no_grad():
        found = [x for x, _ in model.model.backbone(IMAGES, torch.ones(2, 64, 96))]
        maps = own.eval().forward_intermediates(IMAGES, indices=list(stages), intermediates_only=True)
    assert all(torch.equal(x, y) for x, y in zip(found, maps, strict=True))
