# SPDX-License-Identifier: Apache-2.0
"""A segmenter's first batch and predictions, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from slideformer.runs import Blueprint, Run
from slideformer.tasks.results import palette
from slideformer.tasks.segment import drawn
from slideformer.tasks.segment.data import SegmentationData
from slideformer.tasks.training.batches import Batch
from slideformer.viz.segmentation import overlay
from tests.tasks.segment.pictures import NAMES


def test_the_first_batch_has_the_classes_over_the_images_and_stripes_where_there_is_none(
    labelled: Path, sheet: dict[str, Any]
) -> None:
    data = SegmentationData(str(labelled), num_workers=0)
    labels = torch.zeros(1, 32, 32).long()
    labels[0, :8], labels[0, 24:] = 2, 255
    drawn.draw_batch(Batch(torch.full((1, 3, 32, 32), 0.4), labels), data)
    (tile,) = sheet["tiles"]
    shown = np.asarray(tile.image)[::10, ::10]
    image = np.full((32, 32, 3), 102, np.uint8)
    np.testing.assert_array_equal(shown, overlay(image, labels[0], palette(NAMES), ignored=255))
    assert [entry.words for entry in sheet["legend"]] == ["striped: no label", "ground", "bar"]


class FirstClass(nn.Module):
    """A segmenter that sees the first class everywhere."""

    def forward(self, images: Tensor) -> Tensor:
        logits = torch.zeros(len(images), len(NAMES), *images.shape[-2:])
        logits[:, 0] = 1
        return logits


def test_predictions_are_next_to_the_labels_of_their_image(labelled: Path, sheet: dict[str, Any]) -> None:
    data = SegmentationData(str(labelled), num_workers=0)
    run = Run(model=FirstClass(), blueprint=Blueprint("segment", "none", 3, "none"), class_names=NAMES)
    drawn.draw_predictions(run, data)
    truth, guess = sheet["tiles"][:2]
    labels = np.asarray(Image.open(labelled / "masks" / "val" / "0.png"))
    image = np.asarray(Image.open(labelled / "val" / "0.jpg"))
    factor = truth.image.width // image.shape[1]
    for tile, classes in ((truth, labels), (guess, np.zeros_like(labels))):
        shown = np.asarray(tile.image)[::factor, ::factor]
        np.testing.assert_array_equal(shown, overlay(image, classes, palette(NAMES)))
    assert truth.lines == ("0.jpg: labelled",)
    assert guess.lines == (f"predicted, {100 * (labels == 0).mean():.1f} % of the pixels right",)
    assert len(sheet["tiles"]) == 4
    assert sheet["title"].startswith("2 of 2 hold-out images")
