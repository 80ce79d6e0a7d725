# SPDX-License-Identifier: Apache-2.0
"""An exported file is a run: it gives the answers of the run that it was exported from."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from slideformer_runtime.engines import ENGINES, Engine

import slideformer
from slideformer.cli.main import main
from slideformer.errors import UserError
from slideformer.runs import open_run, save_run
from slideformer.runs.exported import Exported
from slideformer.runs.warm_start import start_from
from slideformer.tasks.results import Classification, Detections, Segmentation, Unreadable
from tests.exported import CATEGORY_IDS, CLASSES, exported_classifier, exported_detector
from tests.runtime import files
from tests.runtime.test_broken_outputs import with_weights
from tests.tasks.segment.pictures import NAMES, write_set


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images of the size at which the small detector looks at them, in a folder for each class."""
    random = np.random.default_rng(0)
    for name in CLASSES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        pixels = random.integers(0, 256, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name / "a.png")
    return tmp_path / "photos"


def both(place: Path, folder: Path, **options: Any) -> list[tuple[Any, Any]]:
    """Results of a run and of the file in its folder."""
    sources = (open_run(place), open_run(place / "model.onnx"))
    return list(zip(*(slideformer.predict(run, folder, **options) for run in sources), strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_classifier_gives_the_answers_of_its_run(
    workers: int, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for one, other in both(exported_classifier(tmp_path_factory), folder, num_workers=workers, batch_size=2):
        assert isinstance(other, Classification)
        assert (other.path, other.class_names) == (one.path, CLASSES)
        np.testing.assert_allclose(other.probabilities, one.probabilities, atol=1e-5)


@pytest.mark.slow
def test_a_detector_gives_the_answers_of_its_run(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for one, other in both(exported_detector(tmp_path_factory), folder, score=0.0):
        assert isinstance(other, Detections)
        assert len(other.boxes) == len(one.boxes) > 5
        np.testing.assert_allclose(other.boxes, one.boxes, atol=1e-2)
        np.testing.assert_allclose(other.scores, one.scores, atol=1e-4)
        assert (other.labels.tolist(), other.category_ids) == (one.labels.tolist(), CATEGORY_IDS)


def test_a_segmenter_names_the_class_of_every_pixel(folder: Path, tmp_path: Path) -> None:
    run = open_run(files.segmenter(tmp_path / "brightest.onnx"))
    for result in slideformer.predict(run, folder):
        assert isinstance(result, Segmentation)
        with Image.open(result.path) as image:
            assert np.array_equal(result.label_map, np.asarray(image).argmax(2))
        assert {name for name, _ in result.shares()} <= set(files.CLASS_NAMES)


def test_a_classifier_is_evaluated_as_its_run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = exported_classifier(tmp_path_factory)
    one, other = (slideformer.evaluate(open_run(x), folder) for x in (place, place / "model.onnx"))
    wanted, found = one.to_dict(), other.to_dict()
    assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-4)
    assert {**found, "loss": 0} == {**wanted, "loss": 0}


def test_a_file_is_evaluated_on_what_the_training_held_out(folder: Path, tmp_path: Path) -> None:
    for name in CLASSES[3:]:
        shutil.rmtree(folder / name)
    for name, copy in itertools.product(CLASSES[:3], "bcd"):
        shutil.copy(folder / name / "a.png", folder / name / f"{copy}.png")
    facts = {**files.PREPARED, "class_names": CLASSES[:3], "val_fraction": 0.25}
    run = open_run(files.classifier(tmp_path / "model.onnx", facts))
    assert slideformer.evaluate(run, folder).to_dict()["images"] == 3
    assert slideformer.evaluate(run, folder, val_fraction=1).to_dict()["images"] == 12


def test_a_segmenter_is_evaluated(tmp_path: Path) -> None:
    run = open_run(files.segmenter(tmp_path / "brightest.onnx", {"class_names": NAMES}))
    figures = slideformer.evaluate(run, write_set(tmp_path / "set", train=1)).to_dict()
    shares = {row["name"]: row["accuracy"] for row in figures["classes"]}
    # The colours of the set: ground is mostly green, the square red, the bar blue.
    assert shares["bar"] > 0.95
    assert shares["square"] < 0.05


def test_a_file_for_one_number_of_images_takes_any(folder: Path, tmp_path: Path) -> None:
    any_number = open_run(files.classifier(tmp_path / "any.onnx"))
    facts = {**files.PREPARED, "batch": 2}
    two = open_run(files.classifier(tmp_path / "two.onnx", facts, batch=2))
    wanted, found = (list(slideformer.predict(run, folder, batch_size=5)) for run in (any_number, two))
    for one, other in zip(wanted, found, strict=True):
        assert isinstance(one, Classification)
        assert isinstance(other, Classification)
        np.testing.assert_allclose(other.probabilities, one.probabilities, atol=1e-6)


def test_a_file_for_one_size_leaves_other_images_out(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(folder / "small.png")
    run = open_run(files.segmenter(tmp_path / "one.onnx", {"height": 30, "width": 40}))
    found = list(slideformer.predict(run, folder))
    assert {Path(x.path).name for x in found if not isinstance(x, Unreadable)} == {"small.png"}
    assert len(found) == 6
    message = "it must be 40 pixels wide and 30 high for this file, got 96 x 64; resize it, or export the mo"
    assert str(found[-1].error).startswith(message)


def no_model(folder: Path) -> Path:
    Image.new("RGB", (4, 4)).save(folder / "photo.jpg")
    return folder / "photo.jpg"


def half(folder: Path) -> Path:
    file = files.classifier(folder / "half.onnx")
    file.write_bytes(file.read_bytes()[:100])
    return file


def of_another_program(folder: Path) -> Path:
    facts = dict.fromkeys(files.FACTS, "")
    return files.classifier(folder / "other.onnx", {**facts, "slideformer_format": "99"})


def other_classes(folder: Path) -> Path:
    return files.segmenter(folder / "two.onnx", {"class_names": ["a", "b"]})


def nameless(folder: Path) -> Path:
    return files.segmenter(folder / "nameless.onnx", {"class_names": []})


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "neither run nor export": (
        no_model,
        "must be the folder of a run, or a file that `slideformer export` w",
    ),
    "cut short": (half, "must be a complete ONNX file"),
    "another format": (of_another_program, "must be of format 1 to 3, got format 99"),
    "other classes": (other_classes, "must have outputs of the 2 classes in its metadata, but has others"),
    "classes unknown": (nameless, "must say how many classes it has, but does not; export it again"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_a_bad_file_is_one_line(
    verb: str,
    make: Callable[[Path], Path],
    message: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = make(tmp_path)
    data = write_set(tmp_path / "set", train=1)
    (data / "classes.txt").write_text("a\nb\nc\n")
    if verb == "evaluate" and make is other_classes:
        (data / "classes.txt").write_text("a\nb\n")
        message = "class"
    rest = {"predict": [folder], "evaluate": ["--data", data]}[verb]
    assert main([str(word) for word in (verb, file, *rest)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_device_or_a_precision_does_not_go_with_a_file(folder: Path, tmp_path: Path) -> None:
    run = open_run(files.classifier(tmp_path / "model.onnx"))
    with pytest.raises(
        UserError, match=r"an exported file runs on the CPU, got .*model\.onnx and `device` cuda"
    ):
        slideformer.predict(run, folder, device="cuda")
    with pytest.raises(UserError, match=r"in the precision of its export, got .* and `precision` bfloat16"):
        slideformer.evaluate(run, folder, precision="bfloat16")


def test_a_file_is_not_exported_saved_or_trained_from(
    tmp_path: Path, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = files.classifier(tmp_path / "model.onnx")
    run = open_run(file)
    message = r"a run must have its weights, got the exported file .*model\.onnx; give the folder of the run"
    with pytest.raises(UserError, match=message):
        slideformer.export(run, "onnx")
    with pytest.raises(UserError, match=message):
        save_run(run, tmp_path / "saved")
    trained = open_run(finished_run)
    with pytest.raises(UserError, match=r"model\.onnx"):
        start_from(str(file), trained.model, trained.blueprint)
    assert main(["export", str(file), "--to", "onnx"]) == 2
    assert "a run must have its weights" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["errors", "masks"], ids=["no runtime", "an older runtime"])
@pytest.mark.parametrize("engine", ENGINES.items(), ids=ENGINES)
def test_without_the_runtime_of_this_version_the_line_says_what_to_install(
    missing: str, engine: tuple[str, Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffix, row = engine
    file = tmp_path / f"model{suffix}"
    file.touch()
    monkeypatch.setitem(sys.modules, f"slideformer_runtime.{missing}", None)
    with pytest.raises(UserError) as raised:
        open_run(file)
    assert str(raised.value) == (
        f"{file} needs the slideformer-runtime of this version, which is not installed; "
        f"pip install './runtime[{row.extra}]' in the source folder of slideformer"
    )


def test_a_wrong_path_is_called_so_without_the_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "slideformer_runtime.errors", None)
    with pytest.raises(UserError, match=r"ending in \.onnx or \.xml; check the path"):
        open_run(no_model(tmp_path))


@pytest.mark.parametrize("output", ["boxes", "all_scores", "all_masks"])
def test_numbers_of_a_detector_that_are_not_finite_are_an_error(
    output: str, folder: Path, tmp_path: Path
) -> None:
    run = open_run(with_weights(files.mask_detector(tmp_path / "model.onnx"), **{output: np.nan}))
    with pytest.raises(UserError, match=r"model\.onnx, .*a\.png: a model must give finite answers, got nan"):
        list(slideformer.predict(run, folder))


def test_only_masks_of_objects_with_the_score_are_made(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(files.mask_detector(tmp_path / "model.onnx"))
    assert isinstance(run.model, Exported)
    made: list[int] = []
    paste = run.model.paste
    monkeypatch.setattr(
        run.model, "paste", lambda masks, *rest: made.append(len(masks)) or paste(masks, *rest)
    )
    image = folder / CLASSES[0] / "a.png"
    for score, count in ((0.9, 1), (0.0, 2)):
        (found,) = slideformer.predict(run, image, score=score)
        assert isinstance(found, Detections)
        assert found.masks is not None
        assert (len(found.scores), found.masks.shape, found.masks.dtype) == (count, (count, 64, 96), bool)
    assert made == [1, 2]
    (whole,) = run.model([torch.rand(3, 64, 96)])
    assert whole["masks"].dtype == torch.bool


def test_results_of_a_file_go_next_to_it(
    folder: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = files.segmenter(tmp_path / "model.onnx")
    assert main(["predict", str(file), str(folder / CLASSES[0] / "a.png")]) == 0
    assert (tmp_path / "model.onnx.results" / "predictions" / "a.png").exists()
    shutil.copy(exported_classifier(tmp_path_factory) / "model.onnx", tmp_path / "named.onnx")
    assert main(["evaluate", str(tmp_path / "named.onnx"), "--data", str(folder)]) == 0
    assert (tmp_path / "named.onnx.results" / "evaluation.json").exists()
