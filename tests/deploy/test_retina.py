# SPDX-License-Identifier: Apache-2.0
"""A RetinaNet as a graph finds what the detector finds, in PyTorch and in ONNX Runtime."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from slideformer.deploy import RUNTIMES, DetectionDifference, Report, RetinaGraph, export_model, verify
from slideformer.deploy.card import Card
from slideformer.deploy.verify import compare_detections
from slideformer.errors import UserError
from slideformer.runs import Facts
from tests.dense.small_detectors import small
from tests.exported import exported_detector, retinanet

SIZES = [(64, 96), (70, 90), (133, 201)]
FACTS = Facts(task="detect", architecture="x", class_names=("ant", "bee", "cat"))


def pictures() -> list[Tensor]:
    """Noise of three sizes."""
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(1, 3, *size, generator=generator) for size in SIZES]


def sharp(**arguments: object) -> nn.Module:
    """A small RetinaNet whose scores and boxes differ by more than rounding."""
    return retinanet(**arguments).model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    file = exported_detector(tmp_path_factory) / "model.onnx"
    return file, verify(RUNTIMES["onnx"], file, RetinaGraph(sharp()), pictures())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_graph_finds_what_the_detector_finds(size: tuple[int, int]) -> None:
    detector = sharp(min_size=min(size), max_size=max(size))
    picture = torch.rand(3, *size, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        boxes, scores, labels = RetinaGraph(detector)(picture[None])
        (wanted,) = detector([picture])
    assert len(boxes) > 5
    torch.testing.assert_close(boxes, wanted["boxes"], atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(scores, wanted["scores"])
    assert labels.tolist() == wanted["labels"].tolist()


@pytest.mark.slow
def test_the_file_agrees_with_the_model_at_every_size(
    exported: tuple[Path, Report],
) -> None:
    _, report = exported
    rows = report.detections
    assert not report.differences
    assert [(row.height, row.width) for row in rows] == SIZES
    for row in rows:
        assert row.detections > 5
        assert row.unmatched == 0
        assert row.box < 1e-2
        assert row.score < 1e-5


@pytest.mark.slow
def test_a_script_without_pytorch_finds_the_same(exported: tuple[Path, Report]) -> None:
    session = onnxruntime.InferenceSession(str(exported[0]))
    facts = session.get_modelmeta().custom_metadata_map
    picture = np.random.default_rng(0).random((1, 3, 80, 112), dtype=np.float32)
    boxes, scores, labels = session.run(["boxes", "scores", "labels"], {"image": picture})
    with torch.inference_mode():
        wanted = RetinaGraph(sharp())(torch.from_numpy(picture))
    np.testing.assert_allclose(boxes, wanted[0].numpy(), atol=1e-2)
    np.testing.assert_allclose(scores, wanted[1].numpy(), atol=1e-5)
    assert (np.diff(scores) <= 0).all()
    names = json.loads(facts["class_names"])
    assert [names[label - 1] for label in labels] == [names[label - 1] for label in wanted[2]]


@pytest.mark.slow
def test_a_file_with_another_weight_is_found_out(exported: tuple[Path, Report], tmp_path: Path) -> None:
    program = onnx.load(exported[0])
    weight = max(program.graph.initializer, key=lambda entry: entry.ByteSize())
    changed = onnx.numpy_helper.to_array(weight) * np.float32(1.1)
    weight.CopyFrom(onnx.numpy_helper.from_array(changed, weight.name))
    onnx.save(program, tmp_path / "changed.onnx")
    report = verify(RUNTIMES["onnx"], tmp_path / "changed.onnx", RetinaGraph(sharp()), pictures()[:1])
    (row,) = report.detections
    assert row.unmatched > 0.05 * row.detections or row.score > 1e-4
    assert "boxes that are not the model's at 64 x 96" in str(report.fault)


def detections(*rows: tuple[float, float, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of ten pixels a side, from their left, their score and label."""
    left, scores, labels = (torch.tensor(column) for column in zip(*rows, strict=True))
    zero = torch.zeros_like(left)
    return torch.stack([left, zero, left + 10, zero + 10], dim=1), scores, labels


def test_differences_are_counted_in_both_directions() -> None:
    wanted = detections((0.0, 0.9, 1), (20.0, 0.8, 2), (40.0, 0.7, 1))
    found = detections((20.01, 0.8, 2), (0.0, 0.85, 1), (40.0, 0.7, 3))
    row = compare_detections(5, 6, found, wanted)
    assert (row.height, row.width, row.detections, row.unmatched) == (5, 6, 3, 2)
    assert row.box == pytest.approx(0.01, abs=1e-4)
    assert row.score == pytest.approx(0.05, abs=1e-6)


def test_boxes_that_are_no_numbers_match_nothing() -> None:
    wanted = detections((0.0, 0.9, 1))
    found = (torch.full((1, 4), torch.nan), wanted[1], wanted[2])
    assert compare_detections(5, 6, found, wanted).unmatched == 2


@pytest.mark.parametrize(
    ("unmatched", "score"), [(1, 0.0), (0, 2e-4), (0, float("nan"))], ids=["boxes", "scores", "no numbers"]
)
def test_a_file_that_does_not_pass_is_not_kept(
    unmatched: int, score: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Card("float32", "matmul", "", Facts(task="detect", architecture="x"))
    report = Report(card, ran=True, detections=[DetectionDifference(5, 6, 10, unmatched, 0.0, score)])
    monkeypatch.setattr("slideformer.deploy.runtimes.onnx.write", lambda job, file: file.write_text("graph"))
    # The module, which the package hides behind its function.
    monkeypatch.setattr(sys.modules["slideformer.deploy.export"], "verify", lambda *given: report)
    message = rf"{unmatched} of 10 boxes that are not the model's at 5 x 6; nothing was kept"
    with pytest.raises(UserError, match=message):
        export_model(sharp(), tmp_path / "x.onnx", "onnx", inputs=pictures(), facts=FACTS)
    assert not list(tmp_path.iterdir())


def test_one_box_of_twenty_may_be_another() -> None:
    card, row = (
        Card("float32", "matmul", "", Facts(task="detect", architecture="x")),
        DetectionDifference(5, 6, 20, 1, 0.0, 1e-5),
    )
    assert Report(card, ran=True, detections=[row]).fault is None


def test_another_detector_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be a retinanet to be exported, got a two-stage detector"):
        export_model(small("faster_rcnn"), tmp_path / "x.onnx", "onnx", inputs=pictures(), facts=FACTS)


REFUSED = {
    "executorch": ("x.pte", "float32", "ExecuTorch takes models that classify or segment, got one to detect"),
    "openvino": ("x.xml", "float32", "OpenVINO takes models that classify or segment, got one to detect"),
    "onnx": ("x.onnx", "float16", "a detector is exported in float32, got float16; leave `precision` out"),
}


@pytest.mark.parametrize("runtime", REFUSED)
def test_a_detector_is_for_onnx_in_float32(runtime: str, tmp_path: Path) -> None:
    name, precision, message = REFUSED[runtime]
    with pytest.raises(UserError, match=message):
        export_model(sharp(), tmp_path / name, runtime, inputs=pictures(), facts=FACTS, precision=precision)
    assert not list(tmp_path.iterdir())
