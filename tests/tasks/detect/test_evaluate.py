# SPDX-License-Identifier: Apache-2.0
"""COCO's figures are pycocotools' own, from the same files."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

from slideformer.errors import UserError
from slideformer.tasks.detect.coco import CocoSet, read_coco
from slideformer.tasks.detect.data import eval_loader
from slideformer.tasks.detect.evaluate import FIGURES, KINDS, Evaluator, Scores, evaluate
from slideformer.tasks.detect.layout import Split
from slideformer.tasks.detect.results import BOXES, MASKS, write_results
from slideformer.tasks.evaluate import evaluate as evaluate_any
from slideformer.tasks.training.findings import Findings
from tests.dense.small_detectors import small_run
from tests.tasks.detect import examples

# pycocotools hands its masks to NumPy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
FILES = {"box": BOXES, "mask": MASKS}


def pycocotools_scores(truth: Path, results: Path, kind: str) -> Scores:
    """The twelve figures, and AP by class, of pycocotools alone."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(truth)
        scorer = COCOeval(coco, coco.loadRes(str(results)), KINDS[kind])
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    per_class = []
    for number in range(len(coco.getCatIds())):
        precision = scorer.eval["precision"][:, :, number, 0, -1]
        precision = precision[precision > -1]
        per_class.append(float(precision.mean()) if precision.size else None)
    stats = [None if figure < 0 else float(figure) for figure in scorer.stats]
    return Scores(dict(zip(FIGURES, stats, strict=True)), tuple(per_class))


def assert_same(ours: Scores, theirs: Scores) -> None:
    # torchmetrics keeps its figures in float32.
    assert ours.figures == pytest.approx(theirs.figures, abs=1e-7)
    assert ours.per_class == pytest.approx(theirs.per_class, abs=1e-12)


def scored(data: CocoSet, found: dict[int, dict[str, Tensor]], with_masks: bool = True) -> Evaluator:
    evaluator = Evaluator(data, with_masks=with_masks)
    for image_id in sorted(found):
        evaluator.update([found[image_id]], [image_id])
    return evaluator


@pytest.mark.parametrize("seed", range(6))
def test_the_figures_are_those_of_pycocotools(seed: int, tmp_path: Path) -> None:
    split = examples.annotations(tmp_path, seed)
    data = read_coco(split, Findings())
    evaluator = scored(data, examples.detections(split, seed + 100))
    scores = evaluator.compute()
    write_results(evaluator.found(), data.category_ids, tmp_path)
    for kind, file in FILES.items():
        theirs = pycocotools_scores(split.annotations, tmp_path / file, kind)
        assert_same(scores[kind], theirs)
        assert 0.05 < theirs.figures["AP"] < 0.95
        assert theirs.per_class[data.class_names.index("never seen")] is None


def test_crowds_and_areas_matter_to_the_example(tmp_path: Path) -> None:
    # Were they not passed on, the test above could not tell.
    split = examples.annotations(tmp_path, 0)
    plain = json.loads(split.annotations.read_text())
    for row in plain["annotations"]:
        row["iscrowd"] = 0
    data = read_coco(split, Findings())
    found = examples.detections(split, 100)
    without = read_coco(Split("val", examples.write(tmp_path / "b.json", plain), split.images), Findings())
    assert scored(data, found).compute() != scored(without, found).compute()


def test_boxes_alone_are_scored_alike(tmp_path: Path) -> None:
    split = examples.annotations(tmp_path, 3)
    data = read_coco(split, Findings(), with_masks=False)
    found = examples.detections(split, 4)
    for output in found.values():
        del output["masks"]
    evaluator = scored(data, found, with_masks=False)
    files = write_results(evaluator.found(), data.category_ids, tmp_path)
    assert [file.name for file in files] == [BOXES]
    scores = evaluator.compute()
    assert list(scores) == ["box"]
    assert_same(scores["box"], pycocotools_scores(split.annotations, files[0], "box"))


def test_pictures_shared_out_among_devices_are_scored_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = examples.annotations(tmp_path, 2)
    data = read_coco(split, Findings())
    found = examples.detections(split, 5)
    alone = scored(data, found).compute()
    numbers = sorted(found)
    # Not equally many on each device.
    parts = (numbers[::3], numbers[1::3] + numbers[2::3])
    shares = [scored(data, {number: found[number] for number in part}) for part in parts]

    def gather(shares_out: list[Any], own: Any) -> None:
        shares_out[:] = [(e.image_ids, {k: v for k, v in e.metric.metric_state.items() if v}) for e in shares]
        assert own[0] == shares[0].image_ids

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    assert shares[0].compute() == alone
    assert len(shares[0].metric.detection_box) == len(numbers[::3])


class Recorded(nn.Module):
    """A detector that says what it was told to."""

    def __init__(self, outputs: list[dict[str, Tensor]]) -> None:
        super().__init__()
        self.nowhere = nn.Parameter(torch.zeros(()))
        self.outputs = outputs

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        said, self.outputs = self.outputs[: len(images)], self.outputs[len(images) :]
        return said


def run(split: Split, found: dict[int, Any], batch_size: int = 5, **options: Any) -> Any:
    data = read_coco(split, Findings())
    loader = eval_loader(data, batch_size=batch_size, num_workers=0, on_bad_image="skip")
    outputs = [found[image.image_id] for image in data.images if image.image_id in found]
    return evaluate(Recorded(outputs), loader, Evaluator(data, with_masks=True), **options)


def test_a_detector_is_evaluated_on_every_picture_with_progress(tmp_path: Path) -> None:
    split = examples.annotations(tmp_path, 1)
    found = examples.detections(split, 2)
    told: list[tuple[int, int]] = []
    result = run(split, found, progress=lambda done, total: told.append((done, total)))
    assert told == [(5, 12), (10, 12), (12, 12)]
    assert result.scores == scored(read_coco(split, Findings()), found).compute()
    table = result.table().splitlines()
    assert table[0].split() == ["%", *FIGURES]
    assert table[1].split()[:2] == ["box", f"{100 * result.scores['box'].figures['AP']:.1f}"]
    assert table[-4].split() == ["never", "seen", "-", "-"]
    assert table[-1] == "12 images"
    assert json.loads(json.dumps(result.to_dict()))["mask"]["AP50"] == result.scores["mask"].figures["AP50"]


@pytest.mark.parametrize("batch_size", [1, 5])
def test_an_unreadable_picture_is_told_and_its_objects_are_not_missed(
    batch_size: int, tmp_path: Path
) -> None:
    split = examples.annotations(tmp_path, 1)
    found = examples.detections(split, 2)
    rows = json.loads(split.annotations.read_text())["images"]
    (split.images / rows[3]["file_name"]).write_bytes(b"no picture")
    del found[rows[3]["id"]]
    result = run(split, found, batch_size)
    assert result.unreadable == (str(split.images / rows[3]["file_name"]),)
    assert result.images == 11
    assert result.scores == scored(read_coco(split, Findings()), found).compute()


def test_a_detector_that_finds_nothing_scores_nothing(tmp_path: Path) -> None:
    split = examples.annotations(tmp_path, 1)
    nothing = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "scores": torch.zeros(0),
        "masks": torch.zeros(0, 1, examples.HEIGHT, examples.WIDTH),
    }
    ids = [image.image_id for image in read_coco(split, Findings()).images]
    result = run(split, dict.fromkeys(ids, nothing))
    assert all(scores.figures["AP"] == 0 for scores in result.scores.values())


def test_perfect_detections_score_one(tmp_path: Path) -> None:
    split = examples.annotations(tmp_path, 1)
    data = read_coco(split, Findings())
    document = json.loads(split.annotations.read_text())
    found = {}
    for image in data.images:
        rows = [row for row in document["annotations"] if row["image_id"] == image.image_id]
        boxes = torch.tensor([row["bbox"] for row in rows]).reshape(-1, 4)
        pixels = np.array([examples.decoded(row["segmentation"]) for row in rows], dtype=np.float32)
        found[image.image_id] = {
            "boxes": torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
            "labels": torch.tensor(
                [row.label for row in data.annotations[image.image_id]], dtype=torch.int64
            ),
            "scores": torch.ones(len(rows)),
            "masks": torch.from_numpy(pixels).reshape(-1, 1, examples.HEIGHT, examples.WIDTH),
        }
    for scores in scored(data, found).compute().values():
        assert scores.figures["AP"] == pytest.approx(1.0)
        assert scores.per_class[data.class_names.index("never seen")] is None


def test_nothing_to_evaluate_is_refused(tmp_path: Path) -> None:
    data = read_coco(examples.annotations(tmp_path, 1), Findings())
    with pytest.raises(UserError, match="there must be an image to evaluate, got none"):
        evaluate(Recorded([]), [], Evaluator(data, with_masks=True))


@pytest.mark.parametrize("argument", ["annotations", "images"])
def test_a_path_that_does_not_exist_is_named_by_its_argument(argument: str, tmp_path: Path) -> None:
    split = examples.annotations(tmp_path, 1)
    paths = {"annotations": split.annotations, "images": split.images, argument: tmp_path / "nowhere"}
    with pytest.raises(UserError, match=f"^`{argument}` must be a f.*, got .*nowhere"):
        evaluate_any(small_run("retinanet"), tmp_path, **paths)
