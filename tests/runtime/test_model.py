# SPDX-License-Identifier: Apache-2.0
"""A model answers about pictures, one or many, as its file says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from slideformer_runtime import Class, Detections, LabelMap, Model, UserError
from torch import nn

from slideformer.cli.main import main
from slideformer.models import load_pretrained, save_pretrained
from slideformer.tasks.classify.predict import predict
from tests.runtime.files import PREPARED, add_facts, classifier, segmenter
from tests.runtime.made_pictures import NAMES

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
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    model = timm.create_model("slide_swin_nano", num_classes=5)
    nn.init.normal_(model.head.fc.weight)
    save_pretrained(model, folder, label_names=["ant", "bee", "cat", "dog", "elk"])
    assert main(["export", str(folder), "--to", "onnx"]) == 0
    add_facts(folder / "model.onnx", EXPORTED)
    return folder


def test_an_exported_file_answers_as_pytorch_does(run: Path, pictures: dict[str, Path]) -> None:
    paths = [pictures[name] for name in NAMES]
    model, info = load_pretrained(run)
    wanted = list(predict(model, info, paths, top=5))
    found = list(Model(run / "model.onnx").stream(paths))
    assert len(paths) > 8  # more than one batch, the last not full
    for answer, row in zip(found, wanted, strict=True):
        assert answer.path == row.path
        assert isinstance(answer.found, tuple)
        assert [given.name for given in answer.found] == [name for name, _ in row.classes]
        shares = [given.probability for given in answer.found]
        np.testing.assert_allclose(shares, [share for _, share in row.classes], atol=1e-5)


def test_a_classifier_tells_the_likeliest_first(models: dict[str, Path]) -> None:
    found = Model(models["classify"]).predict(Image.new("RGB", (40, 30), (0, 0, 255)), top=2)
    assert isinstance(found, tuple)
    assert all(isinstance(row, Class) for row in found)
    assert [row.name for row in found] == ["blue", "red"] or [row.name for row in found] == ["blue", "green"]
    assert found[0].probability > 0.99


@pytest.mark.parametrize("batch", [1, 3])
def test_a_file_of_one_batch_size_answers_as_one_of_any(
    batch: int, tmp_path: Path, models: dict[str, Path], pictures: dict[str, Path]
) -> None:
    paths = [pictures[name] for name in NAMES[:7]]
    fixed = classifier(tmp_path / "fixed.onnx", {**PREPARED, "batch": batch}, batch=batch)
    wanted = list(Model(models["classify"]).stream(paths))
    found = list(Model(fixed, threads=1).stream(paths))
    for answer, other in zip(found, wanted, strict=True):
        assert isinstance(answer.found, tuple)
        assert isinstance(other.found, tuple)
        assert [row.name for row in answer.found] == [row.name for row in other.found]
        assert [row.probability for row in answer.found] == pytest.approx(
            [row.probability for row in other.found], abs=1e-6
        )


def test_a_segmenter_gives_the_class_of_every_pixel(models: dict[str, Path]) -> None:
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    pixels[:, :10, 0] = pixels[:, 10:, 2] = 255
    found = Model(models["segment"]).predict(Image.fromarray(pixels))
    assert isinstance(found, LabelMap)
    assert found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.labels, pixels.argmax(axis=2))
    assert found.shares() == (("blue", pytest.approx(2 / 3)), ("red", pytest.approx(1 / 3)))


def test_a_detector_tells_what_is_likely(models: dict[str, Path], pictures: dict[str, Path]) -> None:
    found = Model(models["detect"]).predict(pictures["coffee.png"])
    assert isinstance(found, Detections)
    assert found.boxes.tolist() == [[1, 2, 5, 8]]
    assert found.names() == ("blue",)
    assert found.scores.tolist() == pytest.approx([0.9])
    every = Model(models["detect"]).predict(pictures["coffee.png"], score=0.0)
    assert isinstance(every, Detections)
    assert every.names() == ("blue", "red")


def test_a_file_of_one_size_says_which_and_goes_on(tmp_path: Path, pictures: dict[str, Path]) -> None:
    model = Model(segmenter(tmp_path / "fixed.onnx", {"height": 20, "width": 30}))
    message = "a picture must be 30 pixels wide and 20 high for this file, got 600 x 400; resize it"
    with pytest.raises(UserError, match=message):
        model.predict(pictures["coffee.png"])
    Image.new("RGB", (30, 20)).save(tmp_path / "right.png")
    refused, answered = model.stream([pictures["coffee.png"], tmp_path / "right.png"])
    assert refused.found is None
    assert str(refused.error).startswith(message)
    assert isinstance(answered.found, LabelMap)


def test_an_unreadable_picture_is_told_among_the_others(
    tmp_path: Path, models: dict[str, Path], pictures: dict[str, Path]
) -> None:
    (tmp_path / "broken.png").write_bytes(pictures["coffee.png"].read_bytes()[:5000])
    (tmp_path / "no.png").write_bytes(b"no picture")
    paths = [tmp_path / "broken.png", pictures["coffee.png"], tmp_path / "no.png", tmp_path / "absent.png"]
    answers = list(Model(models["classify"]).stream(paths))
    assert [answer.path for answer in answers] == [str(path) for path in paths]
    assert [answer.error is None for answer in answers] == [False, True, False, False]
    assert [answer.found is None for answer in answers] == [True, False, True, True]
    assert str(answers[2].error).startswith("UnidentifiedImageError: ")
    with pytest.raises(UserError, match="UnidentifiedImageError"):
        Model(models["classify"]).predict(tmp_path / "no.png")


def test_one_at_a_time_is_answered_before_the_next_is_taken(
    models: dict[str, Path], pictures: dict[str, Path]
) -> None:
    taken = []

    def paths() -> Iterator[Path]:
        for name in NAMES[:3]:
            taken.append(name)
            yield pictures[name]

    answers = Model(models["classify"]).stream(paths(), together=1)
    next(answers)
    assert taken == [NAMES[0]]


BAD = {
    "top of none": ("classify", {"top": 0}, "top must be at least 1, got 0"),
    "score above one": ("detect", {"score": 1.5}, "score must be from 0 to 1, got 1.5"),
    "score of a classifier": ("classify", {"score": 0.5}, "score goes with another task, .* can classify"),
    "top of a segmenter": ("segment", {"top": 3}, "top goes with another task, .* can segment"),
}


@pytest.mark.parametrize(("task", "options", "message"), BAD.values(), ids=BAD)
def test_an_option_that_does_not_fit_is_refused(
    task: str, options: dict[str, float], message: str, models: dict[str, Path]
) -> None:
    with pytest.raises(UserError, match=message):
        Model(models[task]).stream([], **options)  # type: ignore[arg-type]


def test_a_task_of_a_later_version_is_refused(tmp_path: Path) -> None:
    file = classifier(tmp_path / "later.onnx", {**PREPARED, "task": "caption"})
    with pytest.raises(UserError, match="task must be one of classify, segment, detect, got caption"):
        Model(file)
