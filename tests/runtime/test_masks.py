# SPDX-License-Identifier: Apache-2.0
"""Masks are pasted as torchvision pastes them, and written as COCO's tools write them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from slideformer_runtime.masks import paste
from slideformer_runtime.run_lengths import run_lengths
from torchvision.models.detection.roi_heads import paste_masks_in_image

from slideformer.tasks.detect.masks import encode

SIZE = (57, 83)
BOXES = {
    "usual": [10.3, 5.9, 40.2, 33.7],
    "all of the image": [0, 0, 83, 57],
    "at a corner": [70.5, 50.25, 83, 57],
    "smaller than a pixel": [20.4, 20.4, 20.6, 20.5],
    "a line": [3.0, 30.0, 80.0, 30.02],
    "no size": [12, 12, 12, 12],
    "beyond the image": [-20, -10, 30, 90],
    "outside": [100, 70, 110, 80],
}


@pytest.mark.parametrize("side", [1, 28])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_a_mask_is_pasted_as_torchvision_does(box: list[float], side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([box, box])
    masks = torch.rand(2, side, side, generator=generator)
    found = paste(masks.numpy(), boxes.numpy(), SIZE)
    if box == BOXES["outside"]:  # which torchvision cannot paste
        assert not found.any()
        return
    wanted = paste_masks_in_image(masks[:, None], boxes, SIZE)[:, 0]
    clear = ((wanted - 0.5).abs() > 1e-5).numpy()
    assert (found == (wanted > 0.5).numpy())[clear].all()
    assert clear.mean() > 0.99


def test_many_boxes_are_pasted_as_torchvision_does() -> None:
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(200, 4, generator=generator) * torch.tensor([83, 57, 83, 57])
    boxes = torch.cat([corners[:, :2].minimum(corners[:, 2:]), corners[:, :2].maximum(corners[:, 2:])], dim=1)
    masks = torch.rand(200, 28, 28, generator=generator)
    wanted = paste_masks_in_image(masks[:, None], boxes, SIZE)[:, 0]
    different = paste(masks.numpy(), boxes.numpy(), SIZE) != (wanted > 0.5).numpy()
    assert not different[((wanted - 0.5).abs() > 1e-5).numpy()].any()


def test_without_objects_there_are_no_masks() -> None:
    found = paste(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4), np.float32), SIZE)
    assert found.shape == (0, *SIZE)


def test_run_lengths_are_those_of_cocos_tools() -> None:
    random = np.random.default_rng(0)
    masks = [random.random(random.integers(1, 40, 2)) < random.random() for _ in range(100)]
    large = np.zeros((700, 900), dtype=bool)
    large[100:600, 50:800] = True
    for mask in (*masks, large, ~large, np.ones((3, 4), dtype=bool), np.zeros((3, 4), dtype=bool)):
        assert run_lengths(mask) == encode(mask).counts.decode()
