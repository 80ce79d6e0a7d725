# SPDX-License-Identifier: Apache-2.0
"""The door for Python users: open a run, predict, evaluate, export, the same for every task."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import slideformer
from slideformer.dense import create_segmenter
from slideformer.errors import UserError
from slideformer.runs import Blueprint, Run
from slideformer.tasks.results import Classification, Detections, Segmentation, Unreadable
from tests.dense.small_detectors import small_run
from tests.exported import CLASSES, classifier_of_one_block
from tests.saved import save_classifier


def segmenter() -> Run:
    torch.manual_seed(0)
    model = create_segmenter("semantic_fpn", "slide_swin_nano", 3, channels=8, head_channels=8).eval()
    return Run(model=model, blueprint=Blueprint("segment", "slide_swin_nano", 3, "semantic_fpn"))


@pytest.fixture
def image() -> Image.Image:
    return Image.effect_noise((64, 48), 60).convert("RGB")


@pytest.fixture
def runs(finished_run: Path) -> dict[str, Run]:
    return {
        "classify": slideformer.open_run(finished_run),
        "detect": small_run("mask_rcnn"),
        "segment": segmenter(),
    }


RESULTS = {"classify": Classification, "detect": Detections, "segment": Segmentation}


@pytest.mark.parametrize("task", RESULTS)
def test_every_task_gives_results_that_print_convert_draw_and_are_saved(
    task: str, runs: dict[str, Run], image: Image.Image, tmp_path: Path
) -> None:
    image.save(tmp_path / "a.png")
    folder = tmp_path / "more"
    folder.mkdir()
    image.save(folder / "a.jpg")
    sources = [tmp_path / "a.png", image, np.asarray(image), str(folder)]
    found = list(slideformer.predict(runs[task], sources))
    assert [type(result) for result in found] == [RESULTS[task]] * 4
    assert [result.path for result in found] == [
        str(tmp_path / "a.png"),
        "image 2",
        "image 3",
        str(folder / "a.jpg"),
    ]
    files: set[Path] = set()
    for result in found:
        assert str(result).startswith(f"{result.path}  ")
        assert json.loads(json.dumps(result.to_dict()))["path"] == result.path
        assert min(result.draw().size) >= 48
        saved = result.save(tmp_path / "drawn")
        assert all(file.read_bytes().startswith(b"\x89PNG") for file in saved)
        assert files.isdisjoint(saved)
        files |= set(saved)


def test_one_image_need_not_be_in_a_list(runs: dict[str, Run], image: Image.Image) -> None:
    (first,) = slideformer.predict(runs["classify"], image)
    (second,) = slideformer.predict(runs["classify"], np.asarray(image))
    assert isinstance(first, Classification)
    assert isinstance(second, Classification)
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert first.probabilities.sum() == pytest.approx(1)
    assert first.labels.tolist() == np.argsort(-first.probabilities).tolist()


def test_a_result_never_replaces_an_image(runs: dict[str, Run], image: Image.Image, tmp_path: Path) -> None:
    image.save(tmp_path / "a.png")
    (result,) = slideformer.predict(runs["segment"], tmp_path / "a.png")
    with pytest.raises(UserError, match=r"the result must not replace an image, got .*a\.png for both"):
        result.save(tmp_path)


def test_an_unreadable_image_is_a_result_or_an_error(runs: dict[str, Run], tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"bad")
    (result,) = slideformer.predict(runs["classify"], tmp_path / "bad.jpg")
    assert isinstance(result, Unreadable)
    assert result.error
    assert result.save(tmp_path) == []
    with pytest.raises(UserError, match="an image must be readable to be drawn on"):
        result.draw()
    with pytest.raises(UserError, match="an image must be complete and readable, got"):
        list(slideformer.predict(runs["classify"], tmp_path / "bad.jpg", on_bad_image="stop"))


MISTAKES = {
    "another task's option": ("classify", {"score": 0.5}, "`score` goes with a run of detect"),
    "a stride alone": ("segment", {"stride": 3}, "`stride` goes with `window`, got 3 alone"),
    "gaps": ("segment", {"window": 3, "stride": 4}, "`stride` must be at most the window, 3, got 4"),
    "no classes": ("classify", {"top": 0}, "`top` must be at least 1, got 0"),
    "a score above 1": ("detect", {"score": 2}, "`score` must be from 0 to 1, got 2"),
}


@pytest.mark.parametrize(("task", "options", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_an_error_at_once(
    task: str, options: dict[str, float], message: str, runs: dict[str, Run], image: Image.Image
) -> None:
    with pytest.raises(UserError, match=message):
        slideformer.predict(runs[task], image, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "must be a path, an image of Pillow or an array, got int"),
        ("nowhere.jpg", "nowhere.jpg .* a glob, but names none"),
    ],
)
def test_other_things_are_not_images(source: object, message: str, runs: dict[str, Run]) -> None:
    with pytest.raises(UserError, match=message):
        slideformer.predict(runs["classify"], [source])  # type: ignore[list-item]


def test_an_array_of_other_numbers_is_unreadable(runs: dict[str, Run]) -> None:
    (result,) = slideformer.predict(runs["classify"], np.zeros((4, 5, 3)))
    assert (
        result.error
        == "an array must be (height, width, 3) or (height, width) of uint8, got (4, 5, 3) of float64"
    )


def test_detections_are_those_of_supervision(runs: dict[str, Run], image: Image.Image) -> None:
    (r,) = slideformer.predict(runs["detect"], image, score=0.0)
    assert isinstance(r, Detections)
    assert (r.boxes.shape, r.scores.shape, r.labels.shape) == (
        (len(r.scores), 4),
        r.scores.shape,
        r.scores.shape,
    )
    assert r.masks is not None
    assert (r.masks.dtype, r.masks.shape) == (np.dtype(bool), (len(r.scores), 48, 64))
    assert (r.boxes[:, 2] > r.boxes[:, 0]).all()
    rows = r.to_dict()["detections"]
    left, top, width, height = rows[0]["bbox"]
    np.testing.assert_allclose([left, top, left + width, top + height], r.boxes[0], rtol=1e-6)


def test_a_run_is_evaluated(runs: dict[str, Run], all_photos: Path, tmp_path: Path) -> None:
    figures = slideformer.evaluate(runs["classify"], all_photos)
    assert "top-1 100.00 %" in str(figures)
    assert [file.name for file in figures.save(tmp_path)] == ["evaluation.json", "confusion.png"]
    assert json.loads((tmp_path / "evaluation.json").read_text()) == figures.to_dict()
    with pytest.raises(UserError, match="`annotations` goes with a run of detect"):
        slideformer.evaluate(runs["classify"], all_photos, annotations="x.json")


@pytest.mark.slow
def test_a_run_is_exported(image: Image.Image, tmp_path: Path) -> None:
    save_classifier(classifier_of_one_block(CLASSES), tmp_path, class_names=CLASSES)
    run = slideformer.open_run(tmp_path)
    report = slideformer.export(run, "onnx", images=[image])
    assert report.file == tmp_path / "model.onnx"
    assert max(row.largest for row in report.differences) < 1e-4
    assert str(report).startswith("classify, float32, slide attention as matmul, inputs of any x any x any")
    with pytest.raises(
        UserError, match="int8 needs images to be calibrated with, got none; name some with `cal"
    ):
        slideformer.export(run, "onnx", precision="int8")


def test_opening_a_run_imports_nothing_of_training_export_or_drawing() -> None:
    program = (
        "import sys, slideformer; slideformer.open_run; "
        "heavy = {'lightning', 'matplotlib', 'onnx', 'slideformer.tasks', 'slideformer.deploy'}; "
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
