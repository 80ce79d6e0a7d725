# SPDX-License-Identifier: Apache-2.0
"""What an export refuses, and that what it refuses leaves nothing behind."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from slideformer.deploy import RUNTIMES, check_sizes, export_model, of_file
from slideformer.errors import UserError
from slideformer.runs import Facts
from tests.deploy.small import FACTS, SIZE, Tiny, image, needs, written
from tests.tiers import fast

REFUSED = {
    "runtime": ("abacus", "model.onnx", {}, "the runtime must be one of onnx, openvino, .* got 'abacus'"),
    "ending": (
        "openvino",
        "model.onnx",
        {},
        r"a file for OpenVINO must end in \.xml, got .*model\.onnx; change its name",
    ),
    "precision": (
        "torch",
        "model.pt2",
        {"precision": "int8", "calibration": [image(*SIZE)]},
        "AOTInductor has the precisions float32, got int8; choose one of them",
    ),
    "int8 without pictures": (
        "onnx",
        "model.onnx",
        {"precision": "int8"},
        "int8 needs images to be calibrated with, got none; name some with `calibrate`",
    ),
    "task": (
        "executorch",
        "model.pte",
        {"facts": Facts(task="detect", architecture="x")},
        "ExecuTorch takes models that classify or segment, got one to detect; choose onnx or openvino",
    ),
}


@pytest.mark.parametrize(("runtime", "name", "more", "message"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_refused_before_anything_is_written(
    runtime: str, name: str, more: dict[str, object], message: str, tmp_path: Path
) -> None:
    given = {"inputs": [image(*SIZE)], "facts": FACTS, **more}
    with pytest.raises(UserError, match=message):
        export_model(Tiny(), tmp_path / name, runtime, **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_missing_package_is_named_with_its_extra(
    runtime: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = RUNTIMES[runtime]
    lacking = replace(row, packages=("no_such_package",))
    monkeypatch.setitem(RUNTIMES, runtime, lacking)
    file = tmp_path / f"model{row.suffix}"
    install = rf"pip install 'slideformer\[{runtime}\]'"
    message = f"{row.title} needs no_such_package, which is not installed; {install}"
    with pytest.raises(UserError, match=message):
        export_model(Tiny(), file, runtime, inputs=[image(*SIZE)], facts=FACTS)
    with pytest.raises(UserError, match=message):
        lacking.card(file)


class NotANumber(nn.Module):
    """A model whose logits are not a number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(torch.nan))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean((2, 3)) * self.scale


@pytest.mark.parametrize("runtime", fast(["onnx", "openvino", "executorch", "coreai"]))
def test_a_file_that_does_not_agree_leaves_the_earlier_one(runtime: str, tmp_path: Path) -> None:
    needs(runtime)
    suffix = RUNTIMES[runtime].suffix
    earlier = {f"model{suffix}": "earlier", "model.bin": "weights"}
    for name, text in earlier.items():
        (tmp_path / name).write_text(text)
    inputs = [image(*size) for size in check_sizes(8, 8)]
    if "float32" in RUNTIMES[runtime].one_size:
        inputs = inputs[:1]
    message = "a model must give finite answers, got nan; compute in float32"
    with pytest.raises(UserError, match=message):
        export_model(NotANumber().eval(), tmp_path / f"model{suffix}", runtime, inputs=inputs, facts=FACTS)
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == earlier


def test_the_model_that_is_exported_stays_as_it_is(tmp_path: Path) -> None:
    model = Tiny()
    before = {name: (x.clone(), x.requires_grad) for name, x in model.named_parameters()}
    inputs = [image(*SIZE)]
    export_model(
        model, tmp_path / "model.onnx", "onnx", inputs=inputs, facts=FACTS, precision="float16", fixed=True
    )
    for name, x in model.named_parameters():
        assert torch.equal(x, before[name][0])
        assert x.requires_grad == before[name][1], name


def test_a_file_is_known_by_its_ending(tmp_path: Path) -> None:
    for row in RUNTIMES.values():
        (tmp_path / f"x{row.suffix}").touch()
        assert of_file(tmp_path / f"x{row.suffix}") == row


def test_a_file_of_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be an exported file, but does not exist; check the path"):
        of_file(tmp_path / "model.onnx")
    (tmp_path / "model.tflite").touch()
    with pytest.raises(UserError, match=r"must end in one of \.onnx, \.xml, \.pte, .* got .*model\.tflite"):
        of_file(tmp_path / "model.tflite")


def test_a_platform_that_runs_no_core_ml_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for platform, runs in [("linux", False), ("darwin", True)]:
        monkeypatch.setattr(sys, "platform", platform)
        assert RUNTIMES["coreml"].runs_here == runs
        assert RUNTIMES["onnx"].runs_here


def test_core_ai_runs_on_linux_too_but_is_made_for_apple(monkeypatch: pytest.MonkeyPatch) -> None:
    for platform, fast_here in [("linux", False), ("darwin", True)]:
        monkeypatch.setattr(sys, "platform", platform)
        assert RUNTIMES["coreai"].runs_here
        assert RUNTIMES["coreai"].is_fast_here == fast_here
        assert RUNTIMES["onnx"].is_fast_here


def test_a_second_export_takes_the_place_of_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        file = written(tmp_path, "coreml")
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]
