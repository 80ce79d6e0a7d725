# SPDX-License-Identifier: Apache-2.0
"""A segmenter's ONNX file gives the logits of every pixel, for any batch, height and width."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import nn

from slideformer.dense.segmenter import create_segmenter
from slideformer.deploy import export_model
from slideformer.runs import Facts
from tests.deploy.small import needs

# Multiples of the coarsest stride and not.
SIZES = ((1, 64, 64), (3, 80, 97), (2, 33, 70))


def sharp(head: str, backbone: str) -> nn.Module:
    """A segmenter, always the same, its logits further apart than a fresh one's: by more than rounding."""
    torch.manual_seed(0)
    model = create_segmenter(head, backbone, 5, channels=16).eval()
    nn.init.normal_(model.classifier[1].weight, std=0.1)  # type: ignore[arg-type]
    return model


@pytest.mark.parametrize(
    ("head", "backbone"),
    [
        ("semantic_fpn", "resnet10t"),
        pytest.param("upernet", "slide_swin_nano", marks=pytest.mark.slow),
    ],
)
def test_the_file_agrees_with_the_model_at_every_size(head: str, backbone: str, tmp_path: Path) -> None:
    model = sharp(head, backbone)
    file = tmp_path / "model.onnx"
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(batch, 3, *size, generator=generator) for batch, *size in SIZES]
    report = export_model(model, file, "onnx", inputs=images, facts=Facts(task="segment", architecture="x"))
    assert report.card.task == "segment"
    rows = report.differences
    assert [(row.batch, row.height, row.width) for row in rows] == list(SIZES)
    assert max(row.largest for row in rows) <= 1e-4
    session = onnxruntime.InferenceSession(str(file))
    assert [entry.name for entry in session.get_outputs()] == ["logits"]
    (logits,) = session.run(None, {"image": torch.rand(1, 3, 41, 35).numpy()})
    assert logits.shape == (1, 5, 41, 35)
    assert logits.std() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "backbone"), [("semantic_fpn", "resnet10t"), ("upernet", "slide_swin_nano")]
)
def test_core_ai_agrees_at_one_size(head: str, backbone: str, tmp_path: Path) -> None:
    needs("coreai")
    image = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(1))
    facts = Facts(task="segment", architecture="x")
    report = export_model(
        sharp(head, backbone), tmp_path / "model.aimodel", "coreai", inputs=[image], facts=facts
    )
    (row,) = report.differences
    assert row.largest <= 1e-4
    assert row.agreement > 0.999
