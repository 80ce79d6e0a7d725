# SPDX-License-Identifier: Apache-2.0
"""A detector as a graph finds what the detector finds, in PyTorch and in ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from slideformer.cli.main import main
from slideformer.deploy import RUNTIMES, DetectorGraph, export_model, summary, verify, verify_images
from slideformer.errors import UserError
from slideformer.runs import Facts, Run, open_run
from tests.exported import exported_detector, exported_mask_detector, region_detector, retinanet
from tests.tiers import fast

SIZES = [(64, 96), (70, 90), (133, 201)]
FACTS = Facts(task="detect", architecture="x", class_names=("ant", "bee", "cat"))
HEADS = {
    "retinanet": retinanet,
    "faster_rcnn": lambda **given: region_detector("faster_rcnn", **given),
    "mask_rcnn": region_detector,
    "cascade_mask_rcnn": lambda **given: region_detector("cascade_mask_rcnn", **given),
}


def pictures() -> list[Tensor]:
    """Noise of three sizes."""
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(1, 3, *size, generator=generator) for size in SIZES]


CASES = fast(product(HEADS, SIZES), *zip(HEADS, [*SIZES, SIZES[0]], strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_graph_finds_what_the_detector_finds(case: tuple[str, tuple[int, int]]) -> None:
    head, size = case
    detector = HEADS[head](score_threshold=0.1).model
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))
    graph = DetectorGraph(detector).eval()
    with torch.inference_mode():
        resized = graph.resized(picture)
        boxes, scores, labels, *masks = graph(resized)
        (wanted,) = detector([picture[0]])
        ratios = [new / old for old, new in zip(resized.shape[:1:-1], picture.shape[:1:-1], strict=True)]
        boxes = boxes * torch.tensor(2 * ratios)
    assert len(boxes) > 5
    torch.testing.assert_close(boxes, wanted["boxes"], atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(scores, wanted["scores"])
    assert labels.tolist() == wanted["labels"].tolist()
    assert graph.masks == bool(masks) == ("masks" in wanted)
    for mask in masks:
        pasted = paste_masks_in_image(mask[:, None], wanted["boxes"], size)
        torch.testing.assert_close(pasted, wanted["masks"])


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_the_graph_keeps_as_many_proposals_as_the_detector(most: int) -> None:
    detector = region_detector("faster_rcnn", proposals=most).model
    picture = pictures()[0]
    with torch.inference_mode():
        graph = DetectorGraph(detector).eval()
        boxes, scores, _ = graph(graph.resized(picture))
        (wanted,) = detector([picture[0]])
    assert len(boxes) == len(wanted["boxes"]) > 0
    torch.testing.assert_close(scores, wanted["scores"])


def test_where_nothing_is_likely_the_graph_finds_nothing() -> None:
    graph = DetectorGraph(region_detector(score_threshold=1.0).model).eval()
    with torch.inference_mode():
        found = graph(graph.resized(pictures()[0]))
    assert [tuple(x.shape) for x in found] == [(0, 4), (0,), (0,), (0, 28, 28)]


FOLDERS = {"retinanet": exported_detector, "mask_rcnn": exported_mask_detector}
SCORES = {"retinanet": 1e-5, "mask_rcnn": 1e-4}


@pytest.mark.slow
@pytest.mark.parametrize("head", FOLDERS)
def test_the_file_agrees_with_the_model_at_every_size(
    head: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = FOLDERS[head](tmp_path_factory)
    report = verify(RUNTIMES["onnx"], folder / "model.onnx", open_run(folder).model, pictures())
    assert not report.differences
    assert [(row.height, row.width) for row in report.detections] == SIZES
    for row in report.detections:
        assert row.detections > 5
        assert row.unmatched == row.moved == 0
        assert row.box < 1e-2
        assert row.score < SCORES[head]
        assert (row.mask is None) == (head == "retinanet")
        assert row.mask is None or row.mask > 0.99


@pytest.mark.slow
def test_the_same_image_gives_the_same_numbers_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = RUNTIMES["onnx"].open_file(exported_mask_detector(tmp_path_factory) / "model.onnx", 1)
    first, second = run(pictures()[1]), run(pictures()[1])
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@pytest.mark.slow
def test_a_script_without_pytorch_finds_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    session = onnxruntime.InferenceSession(str(exported_mask_detector(tmp_path_factory) / "model.onnx"))
    facts = session.get_modelmeta().custom_metadata_map
    picture = np.random.default_rng(0).random((1, 3, 80, 112), dtype=np.float32)
    boxes, scores, labels, masks = session.run(["boxes", "scores", "labels", "masks"], {"image": picture})
    with torch.inference_mode():
        (wanted,) = region_detector().model([torch.from_numpy(picture[0])])
    np.testing.assert_allclose(boxes, wanted["boxes"].numpy(), atol=1e-2)
    np.testing.assert_allclose(scores, wanted["scores"].numpy(), atol=SCORES["mask_rcnn"])
    assert (np.diff(scores) <= 0).all()
    assert masks.shape == (len(boxes), 28, 28)
    names = json.loads(facts["class_names"])
    assert [names[label - 1] for label in labels] == [names[label - 1] for label in wanted["labels"]]


@pytest.mark.slow
def test_a_file_with_another_weight_is_found_out(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program = onnx.load(exported_detector(tmp_path_factory) / "model.onnx")
    weight = max(program.graph.initializer, key=lambda entry: entry.ByteSize())
    changed = onnx.numpy_helper.to_array(weight) * np.float32(1.1)
    weight.CopyFrom(onnx.numpy_helper.from_array(changed, weight.name))
    onnx.save(program, tmp_path / "changed.onnx")
    report = verify(RUNTIMES["onnx"], tmp_path / "changed.onnx", retinanet().model, pictures()[:1])
    (row,) = report.detections
    assert row.unmatched > 0.05 * row.detections or row.score > 1e-4
    assert "the exported file must" in str(report.fault)


FIXED: dict[str, Callable[[], Run]] = {
    "faster_rcnn": lambda: region_detector("faster_rcnn"),
    "cascade_mask_rcnn": lambda: region_detector("cascade_mask_rcnn"),
    "nothing to find": lambda: region_detector(score_threshold=1.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIXED)
def test_a_file_of_one_size_agrees_and_refuses_others(name: str, tmp_path: Path) -> None:
    run, file = FIXED[name](), tmp_path / "model.onnx"
    report = export_model(run.model, file, "onnx", inputs=pictures()[1:2], facts=run.facts, fixed=True)
    (row,) = report.detections
    assert (row.height, row.width) == SIZES[1]
    assert (row.detections > 5) == (name != "nothing to find")
    assert report.fault is None
    assert ("the model finds nothing" in str(report)) == (name == "nothing to find")
    assert str(report.card.sizes) == "1 x 70 x 90"
    with pytest.raises(UserError, match=r"takes inputs of 1 x 70 x 90 .* got 1 x 64 x 96"):
        verify(RUNTIMES["onnx"], file, run.model, pictures()[:1])


@pytest.mark.slow
def test_openvino_finds_the_same(tmp_path: Path) -> None:
    run, file = region_detector(), tmp_path / "model.xml"
    report = export_model(run.model, file, "openvino", inputs=pictures()[:1], facts=run.facts, fixed=True)
    assert report.card.masks
    assert report.fault is None
    assert report.detections[0].detections > 5


@pytest.mark.slow
def test_verify_compares_the_hold_out_of_a_detector(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = exported_mask_detector(tmp_path_factory)
    scenes = tmp_path_factory.mktemp("scenes")
    assert main(["scenes", str(scenes / "all"), "--train", "1", "--val", "3"]) == 0
    assert main(["verify", str(folder / "model.onnx"), "--data", str(scenes / "all")]) == 0
    words = capsys.readouterr().out
    assert "hold-out: 3 images, " in words
    assert "lowest mask IoU" in words
    rows = verify_images(open_run(folder), folder / "model.onnx", [scenes / "all" / "val"])
    assert summary(rows) in words
    assert sum(row.detections for row in rows) > 30
    assert max(row.box for row in rows) < 1e-2


def test_another_detector_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be one of slideformer's to be exported, got a Linear"):
        export_model(nn.Linear(2, 3), tmp_path / "x.onnx", "onnx", inputs=pictures(), facts=FACTS)


REFUSED = {
    "executorch": ("x.pte", "float32", "ExecuTorch takes models that classify or segment, got one to detect"),
    "coreml": ("x.mlpackage", "float32", "Core ML takes models that classify or segment, got one to detect"),
    "coreai": ("x.aimodel", "float32", "Core AI takes models that classify or segment, got one to detect"),
    "openvino": ("x.xml", "int8", "a detector is exported in float32, got int8; leave `precision` out"),
    "onnx": ("x.onnx", "float16", "a detector is exported in float32, got float16; leave `precision` out"),
}


@pytest.mark.parametrize("runtime", REFUSED)
def test_a_detector_is_for_onnx_and_openvino_in_float32(runtime: str, tmp_path: Path) -> None:
    name, precision, message = REFUSED[runtime]
    detector = retinanet().model
    with pytest.raises(UserError, match=message):
        export_model(detector, tmp_path / name, runtime, inputs=pictures(), facts=FACTS, precision=precision)
    assert not list(tmp_path.iterdir())
