# SPDX-License-Identifier: Apache-2.0
"""A file is run by the engine of its kind, or rejected in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest
from PIL import Image
from slideformer_runtime import Model, UserError

from tests.runtime.files import classifier


def rejection(file: Path, threads: int | None = None) -> str:
    with pytest.raises(UserError) as raised:
        Model(file, threads=threads)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_another_kind_of_file_is_rejected(tmp_path: Path) -> None:
    assert "must be a file ending in .onnx or .xml" in rejection(tmp_path / "model.pt")


def test_a_file_that_does_not_exist_is_rejected(tmp_path: Path) -> None:
    assert "which does not exist; check the path" in rejection(tmp_path / "model.onnx")


def test_a_folder_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").mkdir()
    assert "which is a folder; check the path" in rejection(tmp_path / "model.onnx")


@pytest.mark.parametrize("kept", [0, 40, 300])
def test_a_file_that_is_cut_short_is_rejected(kept: int, tmp_path: Path, models: dict[str, Path]) -> None:
    file = tmp_path / "short.onnx"
    file.write_bytes(models["classify"].read_bytes()[:kept])
    assert "short.onnx must be a complete ONNX file, but " in rejection(file)


def test_a_file_of_another_program_is_rejected(tmp_path: Path, models: dict[str, Path]) -> None:
    model = onnx.load(models["classify"])
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    assert "other.onnx was not exported by slideformer" in rejection(tmp_path / "other.onnx")


def test_zero_threads_are_rejected(models: dict[str, Path]) -> None:
    assert "`threads` must be from 1 to 1024, got 0" in rejection(models["classify"], threads=0)


@pytest.mark.parametrize(
    ("suffix", "package", "extra"), [(".onnx", "onnxruntime", "onnx"), (".xml", "openvino", "openvino")]
)
def test_a_missing_package_is_named_with_its_extra(
    suffix: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    file = tmp_path / f"model{suffix}"
    file.write_bytes(b"")
    wanted = f"needs {package}, which is not installed; pip install 'slideformer-runtime[{extra}]'"
    assert wanted in rejection(file)


def test_an_input_that_the_engine_cannot_run_is_reported(tmp_path: Path, images: dict[str, Path]) -> None:
    # Says that it takes any number of images, but takes two.
    model = Model(classifier(tmp_path / "wrong_batch.onnx", batch=2))
    with pytest.raises(UserError, match="ONNX Runtime must be able to run 1 x 8 x 8 pixels, but "):
        model.predict(images["coffee.png"])
    (result,) = model.stream([images["coffee.png"]])
    assert "ONNX Runtime must be able to run" in str(result.error)


def test_attention_weights_next_to_the_answers_are_left_out(tmp_path: Path) -> None:
    plain = classifier(tmp_path / "plain.onnx")
    model = onnx.load(plain)
    model.graph.node.append(onnx.helper.make_node("Softmax", ["image"], ["attention_1"]))
    sides = ["batch", 3, "height", "width"]
    value = onnx.helper.make_tensor_value_info("attention_1", onnx.TensorProto.FLOAT, sides)
    model.graph.output.append(value)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**facts, "slideformer_format": "3", "attention": "[{}]"})
    onnx.save(model, tmp_path / "inside.onnx")
    image = Image.new("RGB", (12, 10), (200, 10, 90))
    wanted, found = (Model(tmp_path / name).predict(image) for name in ("plain.onnx", "inside.onnx"))
    assert found.classes == wanted.classes
