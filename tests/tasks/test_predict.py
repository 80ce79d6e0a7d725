# SPDX-License-Identifier: Apache-2.0
"""A prediction is the same however its images are read, and in whatever batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from slideformer.dense import create_segmenter
from slideformer.errors import UserError
from slideformer.models.merge import is_merged
from slideformer.runs import Blueprint, Run, open_run
from slideformer.tasks import evaluate as evaluation
from slideformer.tasks import predict as module
from slideformer.tasks.evaluate import evaluate
from slideformer.tasks.predict import predict
from slideformer.tasks.results import Classification, Detections, Segmentation, Unreadable
from tests.dense.small_detectors import small_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of different sizes, the third of which is damaged."""
    (tmp_path / "photos").mkdir()
    random = np.random.default_rng(0)
    for number, (height, width) in enumerate([(40, 50), (64, 33), (20, 20), (50, 40), (70, 71)]):
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    damaged = tmp_path / "photos" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    return tmp_path / "photos"


def segmenter() -> Run:
    torch.manual_seed(0)
    model = create_segmenter("semantic_fpn", "slide_swin_nano", 3, channels=8, head_channels=8).eval()
    return Run(model=model, blueprint=Blueprint("segment", "slide_swin_nano", 3, "semantic_fpn"))


@pytest.fixture
def runs(finished_run: Path) -> dict[str, Run]:
    return {
        "classify": open_run(finished_run),
        "detect": small_run("mask_rcnn"),
        "segment": segmenter(),
        "segment resized": replace(segmenter(), short_side=48),
    }


def values(result: Any) -> list[Any]:
    """All numbers of a result, and what it is of."""
    if isinstance(result, Classification):
        return [result.path, result.stem, result.probabilities]
    if isinstance(result, Detections):
        return [result.path, result.image_id, result.boxes, result.scores, result.labels, result.masks]
    if isinstance(result, Segmentation):
        return [result.path, result.stem, result.label_map]
    return [result.path, result.error]


WAYS: dict[str, tuple[str, dict[str, int]]] = {
    "classify in processes": ("classify", {"num_workers": 2, "batch_size": 2}),
    "classify in small batches": ("classify", {"num_workers": 0, "batch_size": 1}),
    "detect in a process": ("detect", {"num_workers": 1}),
    "segment in a process": ("segment", {"num_workers": 1}),
    "segment resized in a process": ("segment resized", {"num_workers": 1}),
}


@pytest.mark.parametrize(("task", "way"), WAYS.values(), ids=WAYS)
def test_processes_and_batches_change_no_answer(
    task: str, way: dict[str, int], runs: dict[str, Run], folder: Path
) -> None:
    wanted = list(predict(runs[task], folder, num_workers=0))
    found = list(predict(runs[task], folder, **way))
    assert [type(result) for result in found] == [type(result) for result in wanted]
    assert [isinstance(result, Unreadable) for result in found] == [False, False, True, False, False]
    for one, other in zip(found, wanted, strict=True):
        for left, right in zip(values(one), values(other), strict=True):
            if isinstance(left, np.ndarray):
                np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
            else:
                assert left == right


def test_a_batch_of_a_detector_gives_each_image_its_own_boxes(runs: dict[str, Run], folder: Path) -> None:
    alone = list(predict(runs["detect"], folder, score=0.0))
    together = list(predict(runs["detect"], folder, score=0.0, batch_size=3))
    assert [result.path for result in together] == [result.path for result in alone]
    for result in together:
        if isinstance(result, Detections):
            with Image.open(result.path) as image:
                assert result.boxes[:, 2].max() <= image.width
                assert result.boxes[:, 3].max() <= image.height


def test_many_images_are_predicted_by_a_merged_copy(
    runs: dict[str, Run], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = list(predict(runs["classify"], folder))
    monkeypatch.setattr(module, "MANY", 5)
    merged = []
    place = module.placed
    monkeypatch.setattr(
        module, "placed", lambda *words, **options: merged.append(place(*words, **options)) or merged[0]
    )
    many = list(predict(runs["classify"], folder, num_workers=0))
    assert is_merged(merged[0].model)
    assert not is_merged(runs["classify"].model)
    for one, other in zip(many, few, strict=True):
        if isinstance(one, Classification) and isinstance(other, Classification):
            np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)


def test_an_unreadable_image_stops_the_prediction_in_a_process_too(
    runs: dict[str, Run], folder: Path
) -> None:
    found = predict(runs["segment"], folder, num_workers=1, on_bad_image="stop")
    assert Path(next(found).path).name == "0.png"
    with pytest.raises(UserError, match=r"an image must be complete and readable, got .*2\.png"):
        list(found)


def test_a_result_is_drawn_on_its_file_and_holds_no_image(runs: dict[str, Run], folder: Path) -> None:
    (result,) = predict(runs["segment"], folder / "0.png")
    assert isinstance(result, Segmentation)
    assert result.image is None
    with Image.open(folder / "0.png") as image:
        assert result.draw().size[1] >= image.height
    (folder / "0.png").unlink()
    with pytest.raises(UserError, match=r"0\.png"):
        result.draw()


MISTAKES = {
    "no image a batch": ("classify", {"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
    "less than no process": ("detect", {"num_workers": -1}, "`num_workers` must be from 0 to 1024, got -1"),
    "a batch of different sizes": ("segment", {"batch_size": 2}, "segmented one by one, got `batch_size` 2"),
    "no such device": ("classify", {"device": "gpu"}, "`device` must be one that is here, got 'gpu'"),
}


@pytest.mark.parametrize(("task", "options", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_an_error_at_once(
    task: str, options: dict[str, Any], message: str, runs: dict[str, Run], folder: Path
) -> None:
    with pytest.raises(UserError, match=message):
        predict(runs[task], folder, **options)


def test_an_evaluation_is_the_same_in_processes_and_on_a_merged_copy(
    runs: dict[str, Run], all_photos: Path
) -> None:
    plain = evaluate(runs["classify"], all_photos, num_workers=0).to_dict()
    other = evaluate(runs["classify"], all_photos, num_workers=2, batch_size=2, device="auto").to_dict()
    assert {**plain, "loss": 0} == {**other, "loss": 0}
    assert other["loss"] == pytest.approx(plain["loss"], rel=1e-4)
    assert not is_merged(runs["classify"].model)
    with pytest.raises(UserError, match="`device` must be one that is here"):
        evaluation.evaluate(runs["classify"], all_photos, device="gpu")
