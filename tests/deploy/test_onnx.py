# SPDX-License-Identifier: Apache-2.0
"""An ONNX file is written only if it computes what the model does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from slideformer.cli.export import open_model
from slideformer.cli.main import main
from slideformer.deploy import RUNTIMES, check_sizes, default_file, fingerprint, verify
from slideformer.deploy.card import Card
from slideformer.errors import UserError
from slideformer.layers.deformed_shift import DeformedShift
from tests.exported import CLASSES, exported_classifier
from tests.saved import opened

SIZES = check_sizes(32, 32)
ONNX = RUNTIMES["onnx"]


def images() -> list[torch.Tensor]:
    """Noise of three sizes."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 3, *size, generator=generator) for batch, *size in SIZES]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with an exported file; not to be changed."""
    return exported_classifier(tmp_path_factory)


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    return run / "model.onnx"


def test_the_file_agrees_with_the_model_at_three_sizes(run: Path, exported: Path) -> None:
    model, _ = opened(run)
    report = verify(ONNX, exported, model, images())
    rows = report.differences
    assert report.ran
    assert report.fault is None
    assert [(row.batch, row.height, row.width) for row in rows] == list(SIZES)
    assert max(row.largest for row in rows) <= 1e-4
    assert max(row.mean for row in rows) <= 1e-5
    assert {row.agreement for row in rows} == {1.0}
    assert len({row.batch for row in rows}) == 3


def test_the_file_tells_how_to_prepare_an_image(exported: Path) -> None:
    # Beside the weights: whoever opens the file needs no more than ONNX.
    facts = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    assert json.loads(facts["class_names"]) == list(CLASSES)
    assert json.loads(facts["input_size"]) == [3, 32, 32]
    assert len(json.loads(facts["mean"])) == len(json.loads(facts["std"])) == 3
    assert {"interpolation", "crop_pct", "architecture", "slideformer"} <= facts.keys()


def test_the_file_tells_what_it_is(run: Path, exported: Path) -> None:
    card = ONNX.card(exported)
    model, _ = opened(run)
    assert card == Card("float32", "matmul", fingerprint(model), card.facts)
    assert str(card.sizes) == "any x any x any"


def test_a_script_without_pytorch_gives_the_same_class(run: Path, exported: Path) -> None:
    session = onnxruntime.InferenceSession(str(exported))
    facts = session.get_modelmeta().custom_metadata_map
    pixels = np.random.default_rng(0).random((32, 32, 3), dtype=np.float32)
    image = (pixels - json.loads(facts["mean"])) / json.loads(facts["std"])
    batch = image.transpose(2, 0, 1)[None].astype(np.float32)
    (logits,) = session.run(None, {"image": batch})
    model, info = opened(run)
    with torch.inference_mode():
        wanted = model(torch.from_numpy(batch))
    assert json.loads(facts["class_names"])[logits[0].argmax()] == info.class_names[wanted[0].argmax()]


def test_weights_are_merged_in_the_file_and_not_in_the_model(run: Path, exported: Path) -> None:
    model, _ = opened(run)
    assert any(isinstance(module, DeformedShift) for module in model.modules())
    # The fixed shift is gone from the file: nothing is left to add at inference.
    names = [entry.name for entry in onnx.load(exported).graph.initializer]
    assert names
    assert not [name for name in names if "fixed" in name]


def test_a_file_with_another_weight_is_found_out(run: Path, exported: Path, tmp_path: Path) -> None:
    program = onnx.load(exported)
    weight = max(program.graph.initializer, key=lambda entry: entry.ByteSize())
    changed = onnx.numpy_helper.to_array(weight) * np.float32(1.1)
    weight.CopyFrom(onnx.numpy_helper.from_array(changed, weight.name))
    onnx.save(program, tmp_path / "changed.onnx")
    model, _ = opened(run)
    report = verify(ONNX, tmp_path / "changed.onnx", model, images())
    assert max(row.largest for row in report.differences) > 1e-3
    assert str(report.fault).startswith("the exported file must agree with the model to 1e-04")


BAD: dict[str, tuple[list[str], str]] = {
    "model": (["slide_swin_nan", "--to", "onnx"], "did you mean slide_swin_nano"),
    "folder": (["runs/none", "--to", "onnx"], "must be the folder of a finished run"),
    "runtime": (["slide_swin_nano", "--to", "abacus"], "invalid choice: 'abacus'"),
}


@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD)
def test_a_mistake_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_classes_of_a_run_are_not_to_be_given(run: Path) -> None:
    with pytest.raises(UserError, match="--num-classes goes with a model's name"):
        open_model(str(run), 7)


def test_a_named_model_has_random_weights_and_the_same_always() -> None:
    opened, again = open_model("slide_swin_nano", 7), open_model("slide_swin_nano", 7)
    assert opened.random
    assert opened.facts.architecture == "slide_swin_nano"
    assert default_file(opened, "onnx").name == "slide_swin_nano.onnx"
    head: Any = opened.model
    assert head.num_classes == 7
    assert fingerprint(opened.model) == fingerprint(again.model)
