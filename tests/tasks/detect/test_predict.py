# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from slideformer.tasks.detect.predict import predict
from tests.models.dense.small_detectors import pictures, small


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image: Image.Image = functional.to_pil_image(pictures()[0])
    image.save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize("head", ["mask_rcnn", "cascade_mask_rcnn", "retinanet"])
def test_what_is_told_is_what_is_found_of_that_score(head: str, photo: Path) -> None:
    model = small(head)
    (everything,) = predict(model, [photo], score=0.0)
    scores = everything.output["scores"]
    least = float(scores[len(scores) // 3])
    (told,) = predict(model, [photo], score=least)
    count = int((scores >= least).sum())
    assert 0 < count < len(scores)
    for name, x in told.output.items():
        torch.testing.assert_close(x, everything.output[name][:count])


def test_masks_are_made_of_what_is_told_alone(photo: Path) -> None:
    model = small("mask_rcnn")
    (everything,) = predict(model, [photo], score=0.0)
    least = float(everything.output["scores"][2])
    made = []
    model.roi_heads.mask_predictor.register_forward_hook(lambda *call: made.append(len(call[-1])))
    for score in (least, 0.0):
        assert len(list(predict(model, [photo], score=score))) == 1
    assert made == [3, len(everything.output["scores"])]


def test_a_picture_is_brought_to_where_the_detector_is(photo: Path) -> None:
    class Elsewhere(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros((), device="meta"))

        def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
            assert images[0].device.type == "meta"
            return [{"boxes": torch.zeros(1, 4), "labels": torch.ones(1).long(), "scores": torch.ones(1)}]

    (told,) = predict(Elsewhere(), [photo])
    assert told.output["scores"].tolist() == [1.0]
