# SPDX-License-Identifier: Apache-2.0
"""A model predicts images, one or many, as its file says."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slideformer_runtime import Classification, Detections, Model, Segmentation, Unreadable, UserError

from slideformer.runs import open_run
from slideformer.tasks.predict import predict
from tests.exported import exported_classifier
from tests.runtime.files import PREPARED, add_facts, classifier, segmenter
from tests.runtime.made_images import NAMES

# What an exporter that does not write all facts yet leaves out.
EXPORTED = {
    "slideformer_format": "1",
    "task": "classify",
    "precision": "float32",
    "batch": None,
    "height": None,
    "width": None,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with an exported file."""
    folder = tmp_path_factory.mktemp("run") / "copy"
    shutil.copytree(exported_classifier(tmp_path_factory), folder)
    add_facts(folder / "model.onnx", EXPORTED)
    return folder


def test_an_exported_file_gives_the_results_of_pytorch(run: Path, images: dict[str, Path]) -> None:
    paths = [images[name] for name in NAMES]
    wanted = list(predict(open_run(run), paths, top=5))
    found = list(Model(run / "model.onnx").stream(paths))
    assert len(paths) > 8  # more than one batch, the last not full
    for result, row in zip(found, wanted, strict=True):
        assert isinstance(result, Classification)
        assert result.path == row.path
        assert [name for name, _ in result.classes] == [name for name, _ in row.classes]
        shares = [share for _, share in result.classes]
        np.testing.assert_allclose(shares, [share for _, share in row.classes], atol=1e-5)


def test_a_classifier_gives_the_likeliest_first(models: dict[str, Path]) -> None:
    result = Model(models["classify"]).predict(Image.new("RGB", (40, 30), (0, 0, 255)), top=2)
    assert isinstance(result, Classification)
    assert result.path == "image 1"
    assert result.class_names == ("red", "green", "blue")
    assert result.probabilities.sum() == pytest.approx(1)
    assert result.labels.tolist()[0] == 2
    assert len(result.labels) == len(result.classes) == 2
    name, probability = result.classes[0]
    assert name == "blue"
    assert probability > 0.99


@pytest.mark.parametrize("batch", [1, 3])
def test_a_file_of_one_batch_size_gives_the_results_of_one_of_any(
    batch: int, tmp_path: Path, models: dict[str, Path], images: dict[str, Path]
) -> None:
    paths = [images[name] for name in NAMES[:7]]
    fixed = classifier(tmp_path / "fixed.onnx", {**PREPARED, "batch": batch}, batch=batch)
    wanted = list(Model(models["classify"]).stream(paths))
    found = list(Model(fixed, threads=1).stream(paths))
    for result, other in zip(found, wanted, strict=True):
        assert isinstance(result, Classification)
        assert isinstance(other, Classification)
        assert result.path == other.path
        np.testing.assert_allclose(result.probabilities, other.probabilities, atol=1e-6)


def test_a_segmenter_gives_the_class_of_every_pixel(models: dict[str, Path]) -> None:
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    pixels[:, :10, 0] = pixels[:, 10:, 2] = 255
    found = Model(models["segment"]).predict(Image.fromarray(pixels))
    assert isinstance(found, Segmentation)
    assert found.label_map.dtype == np.uint8
    np.testing.assert_array_equal(found.label_map, pixels.argmax(axis=2))
    assert found.shares() == (("blue", pytest.approx(2 / 3)), ("red", pytest.approx(1 / 3)))


def test_a_detector_gives_objects_above_the_score(models: dict[str, Path], images: dict[str, Path]) -> None:
    found = Model(models["detect"]).predict(images["coffee.png"])
    assert isinstance(found, Detections)
    assert found.boxes.tolist() == [[1, 2, 5, 8]]
    assert found.names() == ("blue",)
    assert found.labels.tolist() == [3]
    assert found.category_ids == (10, 20, 30)
    assert found.masks is None
    assert found.scores.tolist() == pytest.approx([0.9])
    every = Model(models["detect"]).predict(images["coffee.png"], score=0.0)
    assert isinstance(every, Detections)
    assert every.names() == ("blue", "red")


def test_a_file_of_one_size_says_which_and_goes_on(tmp_path: Path, images: dict[str, Path]) -> None:
    model = Model(segmenter(tmp_path / "fixed.onnx", {"height": 20, "width": 30}))
    message = "an image must be 30 pixels wide and 20 high for this file, got 600 x 400; resize it"
    with pytest.raises(UserError, match=message):
        model.predict(images["coffee.png"])
    Image.new("RGB", (30, 20)).save(tmp_path / "right.png")
    rejected, predicted = model.stream([images["coffee.png"], tmp_path / "right.png"])
    assert isinstance(rejected, Unreadable)
    assert rejected.error.startswith(message)
    assert isinstance(predicted, Segmentation)


def test_an_unreadable_image_is_reported_among_the_others(
    tmp_path: Path, models: dict[str, Path], images: dict[str, Path]
) -> None:
    (tmp_path / "broken.png").write_bytes(images["coffee.png"].read_bytes()[:5000])
    (tmp_path / "no.png").write_bytes(b"not an image")
    paths = [tmp_path / "broken.png", images["coffee.png"], tmp_path / "no.png", tmp_path / "absent.png"]
    results = list(Model(models["classify"]).stream(paths))
    assert [result.path for result in results] == [str(path) for path in paths]
    assert [result.error is None for result in results] == [False, True, False, False]
    assert [isinstance(result, Unreadable) for result in results] == [True, False, True, True]
    assert str(results[2].error).startswith("UnidentifiedImageError: ")
    assert str(results[2]) == f"left out: {paths[2]} ({results[2].error})"
    assert results[2].to_dict() == {"path": str(paths[2]), "error": results[2].error}
    with pytest.raises(UserError, match="UnidentifiedImageError"):
        Model(models["classify"]).predict(tmp_path / "no.png")


def test_one_at_a_time_gives_a_result_before_the_next_path_is_taken(
    models: dict[str, Path], images: dict[str, Path]
) -> None:
    taken = []

    def paths() -> Iterator[Path]:
        for name in NAMES[:3]:
            taken.append(name)
            yield images[name]

    next(Model(models["classify"]).stream(paths(), batch_size=1))
    assert taken == [NAMES[0]]


BAD = {
    "top of none": ("classify", {"top": 0}, "`top` must be at least 1, got 0"),
    "score above one": ("detect", {"score": 1.5}, "`score` must be from 0 to 1, got 1.5"),
    "no images at once": ("classify", {"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
    "score of a classifier": ("classify", {"score": 0.5}, "`score` goes with another task, .* can classify"),
    "top of a segmenter": ("segment", {"top": 3}, "`top` goes with another task, .* can segment"),
}


@pytest.mark.parametrize(("task", "options", "message"), BAD.values(), ids=BAD)
def test_an_option_that_does_not_fit_is_rejected(
    task: str, options: dict[str, float], message: str, models: dict[str, Path]
) -> None:
    with pytest.raises(UserError, match=message):
        Model(models[task]).stream([], **options)  # type: ignore[arg-type]


def test_a_task_of_a_later_version_is_rejected(tmp_path: Path) -> None:
    file = classifier(tmp_path / "later.onnx", {**PREPARED, "task": "caption"})
    with pytest.raises(UserError, match="task must be one of classify, segment, detect, got caption"):
        Model(file)
