# SPDX-License-Identifier: Apache-2.0
"""Detectors over several backbones are measured on a step that trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from slideformer.bench import Setting, detector_candidates, restore
from slideformer.bench.detector import OBJECTS, backbone_step, random_objects, training_step
from slideformer.cli.main import main
from slideformer.dense.counts import count_detector
from tests.dense.small_detectors import pictures, small, targets

STEP = Setting(work="step")


def test_a_step_trains_every_part_and_leaves_no_gradient() -> None:
    detector = small("mask_rcnn", drop_path_rate=0.0).train()
    before = {name: x.clone() for name, x in detector.named_parameters()}
    step = training_step(detector, pictures(), targets(), STEP)
    assert step() == ()
    same = [name for name, x in detector.named_parameters() if torch.equal(x, before[name])]
    assert len(same) < 0.1 * len(before)
    assert all(x.grad is None for x in detector.parameters())


def test_a_backbone_gives_gradients_in_training_and_maps_else() -> None:
    features = small("retinanet").backbone.features
    images = torch.rand(1, 3, 64, 64)
    assert [tuple(x.shape[1:]) for x in backbone_step(features, images, Setting())()] == [
        (32, 32, 32),
        (64, 16, 16),
        (128, 8, 8),
        (256, 4, 4),
    ]
    gradients = backbone_step(features.train(), images, STEP)()
    assert len(gradients) == len(list(features.parameters()))


def test_objects_are_inside_their_image_and_fill_their_boxes() -> None:
    target = random_objects(64, torch.Generator().manual_seed(0), "cpu")
    left, top, right, bottom = target["boxes"].T
    assert target["masks"].shape == (OBJECTS, 64, 64)
    assert min(left.min(), top.min()) >= 0
    assert max(right.max(), bottom.max()) <= 64
    filled = target["masks"].flatten(1).sum(1)
    assert (filled >= 49).all()
    assert (filled <= 33 * 33).all()
    assert target["labels"].min() >= 1


def test_candidates_come_in_pairs_with_what_their_parts_cost() -> None:
    detector, alone = detector_candidates(["slide_swin_nano"], "retinanet", 64, 2, STEP)
    counts = count_detector("retinanet", "slide_swin_nano", (64, 64))
    assert (detector.name, alone.name) == ("slide_swin_nano", "slide_swin_nano, backbone alone")
    assert detector.gflop == pytest.approx(2 * 6 * counts.total / 1e9)
    assert alone.gflop == pytest.approx(2 * 6 * counts.multiply_adds["backbone"] / 1e9)


def test_detectors_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "detector.json"
    words = ["slide_swin_nano", "--head", "retinanet", "--size", "64", "--rounds", "1", "--json", str(file)]
    assert main(["bench", "detector", *words]) == 0
    data = json.loads(file.read_text())
    assert data["kind"] == "detector"
    again = "bench detector slide_swin_nano --batch 1 --size 64 --head retinanet --rounds 1"
    assert data["conditions"]["command"].endswith(again)
    detector, alone = data["groups"][0]["rows"]
    assert detector["process_mib"] is None or detector["process_mib"] > detector["memory_mib"]
    assert restore(data).table.text() in capsys.readouterr().out
    assert alone["gflop"] < detector["gflop"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--head", "yolo", "--size", "64"], "the head must be one of faster_rcnn"),
        (["slide_swin_nan", "--size", "64"], "did you mean slide_swin_nano"),
        (["--work", "backward"], "measures --work forward or step"),
        (["--size", "64", "96"], "`bench detector` takes one --size"),
    ],
)
def test_what_cannot_be_measured_is_an_error(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "detector", *words]) == 2
    assert message in capsys.readouterr().err
