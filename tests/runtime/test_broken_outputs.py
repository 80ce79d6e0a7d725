# SPDX-License-Identifier: Apache-2.0
"""A file that is not what its metadata say is recognised by its outputs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image
from slideformer_runtime import Model, UserError
from slideformer_runtime.command import main

from tests.runtime.files import PREPARED, classifier, detector, segmenter

GREY = Image.new("RGB", (8, 8), (90, 120, 30))
PREPROCESSED = {key: value for key, value in PREPARED.items() if key != "task"}


def other_tasks(folder: Path) -> dict[str, Path]:
    """Files by what is wrong with them."""
    files = {
        "classifier as detector": classifier(folder / "a.onnx", {**PREPARED, "task": "detect"}),
        "classifier as segmenter": classifier(folder / "b.onnx", {**PREPARED, "task": "segment"}),
        "segmenter as classifier": segmenter(folder / "c.onnx", PREPARED),
        "segmenter as detector": segmenter(folder / "d.onnx", {"task": "detect"}),
        "detector as classifier": detector(folder / "e.onnx", {**PREPARED, "batch": 1}),
        "detector as segmenter": detector(folder / "f.onnx", {"task": "segment", "batch": 1}),
    }
    assert len(set(files.values())) == len(files)
    return files


@pytest.mark.parametrize("name", [
    "classifier as detector", "classifier as segmenter", "segmenter as classifier", "segmenter as detector",
    "detector as classifier", "detector as segmenter",
])  # fmt: skip
def test_another_task_is_recognised_by_its_outputs(name: str, tmp_path: Path) -> None:
    file = other_tasks(tmp_path)[name]
    with pytest.raises(UserError, match=rf"{file.name} says that it can \w+, which gives outputs of"):
        Model(file).predict(GREY)


def with_weights(file: Path, **values: object) -> Path:
    """The file with other numbers in its constants."""
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        if tensor.name in values:
            old = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(old, values[tensor.name]), tensor.name))
    onnx.save(model, file)
    return file


BROKEN = {
    "classifier": lambda folder: with_weights(classifier(folder / "m.onnx"), ten=np.nan),
    "overflow": lambda folder: with_weights(classifier(folder / "m.onnx"), ten=np.inf),
    "scores": lambda folder: with_weights(detector(folder / "m.onnx"), all_scores=np.nan),
    "boxes": lambda folder: with_weights(detector(folder / "m.onnx"), boxes=np.inf),
}


@pytest.mark.parametrize("made", BROKEN.values(), ids=BROKEN)
def test_outputs_that_are_not_finite_name_file_and_image(
    made: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = made(tmp_path)
    GREY.save(tmp_path / "a.png")
    assert main([str(file), str(tmp_path / "a.png")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"error: {file} must give finite outputs, but does not for {tmp_path}/a.png; export it again, "
        "in float32\n"
    )


@pytest.mark.parametrize("label", [0, -1, 7])
def test_a_label_without_a_class_is_rejected(label: int, tmp_path: Path) -> None:
    file = with_weights(detector(tmp_path / "m.onnx"), labels=label)
    with pytest.raises(UserError, match="the file's labels must be from 1 to its number of classes"):
        Model(file).predict(GREY)


@pytest.mark.parametrize("name", ["m.onnx", "m.xml"])
def test_a_fifo_is_not_opened(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / name)
    GREY.save(tmp_path / "a.png")
    assert main([str(tmp_path / name), str(tmp_path / "a.png")]) == 2
    assert "is not a regular file" in capsys.readouterr().err


def test_weights_that_are_a_fifo_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "m.xml").write_text("<net/>")
    os.mkfifo(tmp_path / "m.bin")
    with pytest.raises(UserError, match=r"m\.bin, which is not a regular file"):
        Model(tmp_path / "m.xml")
