# SPDX-License-Identifier: Apache-2.0
"""A detector's first batch and predictions, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ImageColor

from slideformer.runs import open_run
from slideformer.tasks.detect import drawn
from slideformer.tasks.detect.data import DetectionData
from slideformer.tasks.training.batches import Batch
from slideformer.viz.detections import CLASS_COLOURS


@pytest.fixture
def data(scenes: Path) -> DetectionData:
    return DetectionData(str(scenes), num_workers=0)


def test_the_first_batch_has_boxes_and_masks_where_they_are_after_augmentation(
    data: DetectionData, sheet: dict[str, Any]
) -> None:
    mask = torch.zeros(1, 80, 160)
    mask[0, 20:40, 30:60] = 1
    target = {"boxes": torch.tensor([[30.0, 20, 60, 40]]), "labels": torch.tensor([2]), "masks": mask}
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "masks": torch.zeros(0, 80, 160)}
    drawn.draw_batch(Batch([torch.full((3, 80, 160), 0.4)] * 2, [target, empty]), data)
    first, second = sheet["tiles"]
    assert [tile.lines for tile in (first, second)] == [("160 x 80, 1 object",), ("160 x 80, 0 objects",)]
    assert first.image.size == (320, 160), "enlarged"
    pixels, colour = np.asarray(first.image), ImageColor.getrgb(CLASS_COLOURS[1])
    for row, column in ((40, 90), (79, 90), (60, 60), (60, 119)):
        assert tuple(pixels[row, column]) == colour
    inside = pixels[60, 90].astype(int)
    assert (np.abs(inside - 102) > 5).any(), "the mask is tinted"
    assert (pixels[120:] == 102).all()
    assert (np.asarray(second.image) == 102).all()
    assert [(entry.words, entry.colour) for entry in sheet["legend"]] == [("ring", CLASS_COLOURS[1])]
    assert sheet["title"].endswith("(augmented): 2 images")


def test_a_batch_without_masks_is_drawn(data: DetectionData, sheet: dict[str, Any]) -> None:
    target = {"boxes": torch.tensor([[3.0, 2, 6, 4]]), "labels": torch.tensor([5])}
    drawn.draw_batch(Batch([torch.zeros(3, 8, 8)], [target]), data)
    assert [entry.words for entry in sheet["legend"]] == ["star"]


def test_predictions_are_next_to_the_annotations_of_their_image(
    detection_run: Path, data: DetectionData, sheet: dict[str, Any]
) -> None:
    drawn.draw_predictions(open_run(detection_run), data)
    captions = [tile.lines[0] for tile in sheet["tiles"]]
    for place, image in enumerate(data.val.images):
        count = len(data.val.annotations[image.image_id])
        objects = f"{count} object{'' if count == 1 else 's'}"
        assert captions[2 * place] == f"{image.file.name}: annotated, {objects}"
        assert captions[2 * place + 1].startswith("predicted, ")
    assert len(captions) == 2 * len(data.val.images)
    assert sheet["title"].startswith(
        "3 of 3 hold-out images, each as annotated and, to the right, as predicted"
    )
