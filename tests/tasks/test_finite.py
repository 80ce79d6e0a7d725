# SPDX-License-Identifier: Apache-2.0
"""Answers that are not finite are an error that names file and image, in every task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from slideformer.cli.main import main
from slideformer.dense.detector import create_detector
from slideformer.errors import UserError
from slideformer.runs import Blueprint, Preprocessing, Run
from slideformer.tasks.classify.evaluate import evaluate
from slideformer.tasks.predict import predict
from slideformer.tasks.segment.evaluate import evaluate as evaluate_segmenter
from slideformer.tasks.training.batches import Batch
from tests.dense.small_detectors import small_run
from tests.saved import save_classifier, save_dense

NAMES = ("ant", "bee", "cat")


class Fragile(nn.Module):
    """Gives its input or its channels' means, but NaN or infinity for what is white."""

    def __init__(self, broken: float = torch.nan, *, dense: bool = False) -> None:
        super().__init__()
        self.broken, self.dense = broken, dense

    def forward(self, x: Tensor) -> Tensor:
        answers = torch.where(x < 1, x, self.broken)
        return answers if self.dense else answers.mean((2, 3))


HOW = Preprocessing(
    input_size=(3, 8, 8), mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="bicubic", crop_pct=1.0
)


def classifier(broken: float = torch.nan) -> Run:
    return Run(
        model=Fragile(broken),
        blueprint=Blueprint("classify", "fragile", 3),
        class_names=NAMES,
        preprocessing=HOW,
        folder=Path("run"),
    )


def segmenter() -> Run:
    blueprint = Blueprint("segment", "fragile", 3, "semantic_fpn")
    return Run(model=Fragile(dense=True), blueprint=blueprint, class_names=NAMES, folder=Path("run"))


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Two that are grey, and one that is white."""
    paths = [tmp_path / name for name in ("a.png", "b.png", "white.png")]
    for path, value in zip(paths, (90, 120, 255), strict=True):
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path)
    return paths


PREDICTIONS: dict[str, Callable[[list[Path]], object]] = {
    "classify": lambda paths: list(predict(classifier(), paths)),
    "classify infinite": lambda paths: list(predict(classifier(torch.inf), paths)),
    "segment": lambda paths: list(predict(segmenter(), paths)),
    "segment windows": lambda paths: list(predict(segmenter(), paths, window=4, stride=3)),
}


@pytest.mark.parametrize("ask", PREDICTIONS.values(), ids=PREDICTIONS)
def test_a_prediction_names_file_and_image(ask: Callable[[list[Path]], object], images: list[Path]) -> None:
    ask(images[:2])
    with pytest.raises(UserError, match=r"run, .*white\.png: a model must give finite"):
        ask(images)


def test_an_evaluation_of_a_classifier_names_the_image_among_unreadable_ones() -> None:
    pixels = torch.full((3, 3, 8, 8), 0.5)
    pixels[1] = 1
    batches = [
        Batch(pixels[:1], torch.zeros(1).long(), ("b",)),
        Batch(pixels[1:], torch.zeros(2).long(), ("d",)),
    ]
    with pytest.raises(UserError, match=r"the model, c: a model must give finite answers, got nan"):
        evaluate(Fragile(), batches, NAMES, images=["a", "b", "c", "d", "e"])


def test_an_evaluation_of_a_segmenter_names_the_image_among_unreadable_ones() -> None:
    def batch(value: float) -> Batch:
        return Batch(torch.full((1, 3, 8, 8), value), torch.zeros(1, 8, 8).long())

    lost = Batch(torch.empty(0, 3, 1, 1), torch.empty(0, 1, 1).long(), ("b",))
    with pytest.raises(UserError, match=r"the model, c: a model must give finite answers, got nan"):
        evaluate_segmenter(Fragile(dense=True), [batch(0.5), lost, batch(1.0)], NAMES, images=["a", "b", "c"])


HEADS = {
    "retinanet": "cls_logits.bias",
    "mask_rcnn": "box_predictor.cls_score.bias",
    "cascade_mask_rcnn": "stages.1.box_predictor.bbox_pred.bias",
    "faster_rcnn": "rpn.head.cls_logits.bias",
}


@pytest.mark.parametrize(("head", "weight"), HEADS.items(), ids=HEADS)
def test_a_detector_names_the_image(head: str, weight: str, images: list[Path]) -> None:
    run = small_run(head)
    (found,) = predict(run, images[:1], score=0.0)
    assert found.error is None
    parameter = next(x for name, x in run.model.named_parameters() if name.endswith(weight))
    parameter.data[0] = torch.nan
    with pytest.raises(UserError, match=r"a\.png: a model must give finite answers, got nan"):
        list(predict(run, images[:1]))


def test_weights_that_are_not_finite_are_one_line(
    images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = timm.create_model("slide_swin_nano", num_classes=2)
    model.head.fc.weight.data[0, 0] = torch.nan
    save_classifier(model, tmp_path / "run")
    assert main(["predict", str(tmp_path / "run"), str(images[0])]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {tmp_path}/run/model.safetensors must hold finite numbers")
    assert err.count("\n") == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 100_000), (100_000, 1)], ids=str)
def test_a_detector_takes_an_image_of_any_proportions(
    size: tuple[int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = create_detector("retinanet", "slide_swin_nano", 2, fpn_channels=16, min_size=64, max_size=96)
    arguments = {"fpn_channels": 16, "min_size": 64, "max_size": 96}
    save_dense(detector, tmp_path / "run", classes=2, arguments=arguments, class_names=("ant", "bee"))
    Image.new("RGB", size, (90, 120, 30)).save(tmp_path / "thin.png")
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "thin.png")]) == 0
    assert "thin.png" in capsys.readouterr().out
