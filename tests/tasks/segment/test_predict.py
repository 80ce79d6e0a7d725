# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from slideformer.errors import UserError
from slideformer.models.dense.blueprint import Blueprint
from slideformer.models.dense.saved import DenseInfo
from slideformer.models.dense.sliding import Sliding
from slideformer.tasks.segment.predict import predict, save_labels

INFO = DenseInfo(Blueprint("segment", "semantic_fpn", "slide_swin_nano", 3, {}), ("red", "green", "blue"))


class Brightest(nn.Module):
    """The channel of a pixel that is brightest is its class."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.max() <= 1
        return x


def stripes(file: Path) -> None:
    """A quarter red, the rest blue."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :10, 0] = pixels[:, 10:, 2] = 200
    Image.fromarray(pixels).save(file)


@pytest.mark.parametrize("sliding", [None, Sliding(16, 10)], ids=["whole", "sliding"])
def test_shares_of_classes_are_those_of_the_pixels(sliding: Sliding | None, tmp_path: Path) -> None:
    stripes(tmp_path / "a.png")
    (found,) = predict(Brightest(), INFO, [tmp_path / "a.png"], sliding=sliding)
    assert found.to_dict() == {"path": str(tmp_path / "a.png"), "classes": {"blue": 0.75, "red": 0.25}}
    assert found.labels is not None
    assert found.labels[0].tolist() == [0] * 10 + [2] * 30


def test_labels_have_the_pictures_own_size_whatever_the_model_saw(tmp_path: Path) -> None:
    stripes(tmp_path / "a.png")
    info = DenseInfo(INFO.blueprint, INFO.label_names, extra={"short_side": 8})
    (found,) = predict(Brightest(), info, [tmp_path / "a.png"])
    assert found.labels is not None
    assert found.labels.shape == (20, 40)
    assert dict(found.shares)["blue"] == pytest.approx(0.75, abs=0.03)


def test_an_unreadable_picture_is_told_or_stops(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"bad")
    stripes(tmp_path / "good.png")
    found = list(predict(Brightest(), INFO, [tmp_path / "bad.png", tmp_path / "good.png"]))
    assert "UnidentifiedImageError" in found[0].to_dict()["error"]
    assert found[1].error is None
    with pytest.raises(UserError, match=r"got .*bad.png"):
        list(predict(Brightest(), INFO, [tmp_path / "bad.png"], on_bad_image="stop"))


def test_a_label_png_reads_as_numbers_and_shows_colours(tmp_path: Path) -> None:
    labels = torch.randint(0, 3, (6, 7), dtype=torch.uint8).numpy()
    colours = [(0, 0, 0), (10, 20, 30), (40, 50, 60)]
    save_labels(labels, colours, tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    assert np.array_equal(np.asarray(image), labels)
    assert np.array_equal(np.asarray(image.convert("RGB")), np.array(colours, np.uint8)[labels])
