# SPDX-License-Identifier: Apache-2.0
"""Detections of two models are compared object by object, in both directions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from slideformer.deploy import DetectionDifference, Report, detection_fault, export_model, summary
from slideformer.deploy.card import Card
from slideformer.deploy.detections import compare_detections, compare_images
from slideformer.errors import UserError
from slideformer.runs import Facts
from tests.exported import retinanet

FACTS = Facts(task="detect", architecture="x")
CARD = Card("float32", "matmul", "", FACTS)


def detections(*rows: tuple[float, float, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of ten pixels a side, from their left, their score and label."""
    left, scores, labels = (torch.tensor(column) for column in zip(*rows, strict=True))
    zero = torch.zeros_like(left)
    return torch.stack([left, zero, left + 10, zero + 10], dim=1), scores, labels


def masks(*widths: int) -> Tensor:
    """Masks of ten rows and so many columns, in images of 10 x 200."""
    found = torch.zeros(len(widths), 1, 10, 200)
    for mask, width in zip(found, widths, strict=True):
        mask[..., :width] = 0.9
    return found


def test_differences_are_counted_in_both_directions() -> None:
    wanted = detections((0.0, 0.9, 1), (20.0, 0.8, 2), (40.0, 0.7, 1))
    found = detections((20.01, 0.8, 2), (0.0, 0.85, 1), (40.0, 0.7, 3))
    row = compare_detections(5, 6, found, wanted)
    assert (row.height, row.width, row.detections, row.unmatched) == (5, 6, 3, 2)
    assert row.box == pytest.approx(0.01, abs=1e-4)
    assert row.score == pytest.approx(0.05, abs=1e-6)
    assert row.mask is None


def test_the_smallest_overlap_of_matching_masks_is_reported() -> None:
    boxes = detections((0.0, 0.9, 1), (20.0, 0.8, 2), (40.0, 0.7, 1))
    shuffled = tuple(x[[1, 0, 2]] for x in boxes)
    row = compare_detections(10, 200, (*shuffled, masks(200, 100, 0)), (*boxes, masks(98, 199, 0)))
    assert row.unmatched == 0
    assert row.mask == pytest.approx(0.98)
    assert row.moved == 1


def test_boxes_that_are_no_numbers_match_nothing() -> None:
    wanted = detections((0.0, 0.9, 1))
    found = (torch.full((1, 4), torch.nan), wanted[1], wanted[2])
    assert compare_detections(5, 6, found, wanted).unmatched == 2


def test_two_images_without_objects_are_equal() -> None:
    nothing = (torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), torch.zeros(0, 1, 5, 6))
    row = compare_detections(5, 6, nothing, nothing)
    assert (row.detections, row.unmatched, row.mask) == (0, 0, 1.0)
    assert detection_fault([row]) is None


def test_other_outputs_are_rejected() -> None:
    detector, image = retinanet().model, torch.rand(1, 3, 64, 64)
    boxes, scores, labels = detections((0.0, 0.9, 1))
    for outputs in ([boxes, scores], [boxes, scores, labels[:0]], [scores, boxes, labels], []):
        with pytest.raises(UserError, match="the file must give boxes, scores and labels, got outputs of"):
            compare_images(lambda image, found=outputs: found, detector, [image])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (DetectionDifference(5, 6, 10, 1, 0.0, 0.0), "find the 10 objects .*, got 1 missing"),
        (DetectionDifference(5, 6, 10, 0, 0.0, 0.0, 0.9, 1), "find the 10 objects .*, got 1 missing"),
        (DetectionDifference(5, 6, 10, 0, 0.0, 2e-4), r"in scores .* 2\.00e-04 and 0\.00e\+00 at 5 x 6"),
        (DetectionDifference(5, 6, 10, 0, 0.02, 0.0), r"pixels in boxes, got 0\.00e\+00 and 2\.00e-02"),
        (DetectionDifference(5, 6, 10, 0, 0.0, float("nan")), "got nan"),
    ],
    ids=["boxes", "masks", "scores", "places", "no numbers"],
)
def test_a_file_that_does_not_pass_is_not_kept(
    row: DetectionDifference, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Report(CARD, ran=True, detections=[row])
    monkeypatch.setattr("slideformer.deploy.runtimes.onnx.write", lambda job, file: file.write_text("graph"))
    # The module, which the package hides behind its function.
    monkeypatch.setattr(sys.modules["slideformer.deploy.export"], "verify", lambda *given: report)
    inputs = [torch.rand(1, 3, 64, 96)]
    with pytest.raises(UserError, match=f"{words}.*; nothing was kept"):
        export_model(retinanet().model, tmp_path / "x.onnx", "onnx", inputs=inputs, facts=FACTS)
    assert not list(tmp_path.iterdir())


def test_one_object_of_twenty_may_be_missing_over_all_images() -> None:
    rows = [DetectionDifference(5, 6, 19, 0, 0.0, 1e-5), DetectionDifference(5, 6, 1, 1, 0.0, 1e-5)]
    assert Report(CARD, ran=True, detections=rows).fault is None
    assert detection_fault(rows[1:]) is not None


def test_an_object_in_place_of_another_counts_twice() -> None:
    for count, passes in ((39, False), (40, True)):
        wanted = detections(*((20.0 * n, 0.9, 1) for n in range(count)))
        found = detections((-20.0, 0.9, 1), *((20.0 * n, 0.9, 1) for n in range(1, count)))
        assert (detection_fault([compare_detections(5, 6, found, wanted)]) is None) == passes


def test_many_images_are_summed_up_in_a_line() -> None:
    rows = [
        DetectionDifference(5, 6, 4, 0, 2e-4, 1e-6, 0.995, 0),
        DetectionDifference(5, 6, 3, 1, 1e-4, 3e-6, 0.97, 1),
    ]
    assert summary(rows) == (
        "2 images, 7 detections, 1 unmatched, boxes to 2.0e-04 px, scores to 3.0e-06, "
        "lowest mask IoU 0.9700 (1 below 0.99)"
    )
