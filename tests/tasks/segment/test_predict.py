# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from slideformer.errors import UserError
from slideformer.runs import Blueprint, Run
from slideformer.tasks.predict import predict
from slideformer.tasks.results import Segmentation


class Brightest(nn.Module):
    """The channel of a pixel that is brightest is its class."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.max() <= 1
        return x


RUN = Run(
    model=Brightest(),
    blueprint=Blueprint("segment", "slide_swin_nano", 3, "semantic_fpn"),
    class_names=("red", "green", "blue"),
)
# Window and stride.
WINDOWS: dict[str, dict[str, int]] = {"whole": {}, "sliding": {"window": 16, "stride": 10}}


def found(run: Run, file: Path, **options: int) -> Segmentation:
    (result,) = predict(run, file, **options)
    assert isinstance(result, Segmentation)
    return result


def stripes(file: Path) -> None:
    """A quarter red, the rest blue."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :10, 0] = pixels[:, 10:, 2] = 200
    Image.fromarray(pixels).save(file)


@pytest.mark.parametrize("windows", WINDOWS.values(), ids=WINDOWS)
def test_shares_of_classes_are_those_of_the_pixels(windows: dict[str, int], tmp_path: Path) -> None:
    stripes(tmp_path / "a.png")
    result = found(RUN, tmp_path / "a.png", **windows)
    assert result.to_dict() == {"path": str(tmp_path / "a.png"), "classes": {"blue": 0.75, "red": 0.25}}
    assert result.label_map[0].tolist() == [0] * 10 + [2] * 30


def test_labels_have_the_images_own_size_whatever_the_model_saw(tmp_path: Path) -> None:
    stripes(tmp_path / "a.png")
    result = found(replace(RUN, short_side=8), tmp_path / "a.png")
    assert result.label_map.shape == (20, 40)
    assert dict(result.shares())["blue"] == pytest.approx(0.75, abs=0.03)


def test_an_unreadable_picture_is_told_or_stops(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"bad")
    stripes(tmp_path / "good.png")
    bad, good = predict(RUN, [tmp_path / "bad.png", tmp_path / "good.png"])
    assert "UnidentifiedImageError" in bad.to_dict()["error"]
    assert good.error is None
    with pytest.raises(UserError, match=r"got .*bad.png"):
        list(predict(RUN, [tmp_path / "bad.png"], on_bad_image="stop"))


def test_a_label_png_reads_as_numbers_and_shows_colours(tmp_path: Path) -> None:
    labels = torch.randint(0, 3, (6, 7), dtype=torch.uint8).numpy()
    result = Segmentation("a.jpg", ("background", "b", "c"), labels, image=Image.new("RGB", (7, 6)), stem="a")
    drawn, file = result.save(tmp_path)
    assert (drawn.name, file.name) == ("a.png", "a_labels.png")
    image = Image.open(file)
    assert np.array_equal(np.asarray(image), labels)
    assert np.array_equal(np.asarray(image.convert("RGB")), np.array(result.colours(), np.uint8)[labels])
    assert result.colours()[0] == (0, 0, 0)
