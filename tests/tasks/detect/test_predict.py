# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from slideformer.runs import Run
from slideformer.tasks.predict import predict
from slideformer.tasks.results import Detections
from tests.dense.small_detectors import pictures, small_run


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image: Image.Image = functional.to_pil_image(pictures()[0])
    image.save(tmp_path / "a.png")
    return tmp_path / "a.png"


def found(run: Run, photo: Path, **options: float) -> Detections:
    (result,) = predict(run, photo, **options)
    assert isinstance(result, Detections)
    return result


@pytest.mark.parametrize("head", ["mask_rcnn", "cascade_mask_rcnn", "retinanet"])
def test_the_objects_are_those_of_at_least_the_score(head: str, photo: Path) -> None:
    run = small_run(head)
    everything = found(run, photo, score=0.0)
    scores = everything.scores
    least = float(scores[len(scores) // 3])
    some = found(run, photo, score=least)
    count = int((scores >= least).sum())
    assert 0 < count < len(scores)
    for name in ("boxes", "scores", "labels", "masks"):
        value, every = getattr(some, name), getattr(everything, name)
        assert (value is None) == (every is None)
        if every is not None:
            np.testing.assert_array_equal(value, every[:count])


def test_the_result_has_all_objects_however_many_are_drawn(photo: Path) -> None:
    run = small_run("retinanet")
    everything = found(run, photo, score=0.0)
    some = found(run, photo, score=0.0, max_drawn=3)
    assert len(some.scores) == len(everything.scores) > 50
    sizes = [len(set(map(tuple, np.asarray(x.draw()).reshape(-1, 3)))) for x in (some, everything)]
    assert sizes[0] != sizes[1]
    nothing = found(run, photo, score=0.0, max_drawn=0)
    with Image.open(photo) as image:
        drawn = np.asarray(nothing.draw())[: image.height, : image.width]
        np.testing.assert_array_equal(drawn, np.asarray(image.convert("RGB")))


def test_masks_are_made_of_those_objects_only(photo: Path) -> None:
    run = small_run("mask_rcnn")
    everything = found(run, photo, score=0.0)
    least = float(everything.scores[2])
    made = []
    run.model.roi_heads.mask_predictor.register_forward_hook(lambda *call: made.append(len(call[-1])))
    for score in (least, 0.0):
        found(run, photo, score=score)
    assert made == [3, len(everything.scores)]


def test_an_image_is_brought_to_the_device_of_the_detector(photo: Path) -> None:
    class Elsewhere(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros((), device="meta"))

        def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
            assert images[0].device.type == "meta"
            return [{"boxes": torch.zeros(1, 4), "labels": torch.ones(1).long(), "scores": torch.ones(1)}]

    run = replace(small_run("retinanet"), model=Elsewhere())
    assert found(run, photo).scores.tolist() == [1.0]
