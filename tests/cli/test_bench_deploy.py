# SPDX-License-Identifier: Apache-2.0
"""Exported models are measured in their runtimes, and files that match are used again."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from slideformer.bench import deployed, engines, restore
from slideformer.bench.candidate import check
from slideformer.bench.deployed import VIEWS, equal_size
from slideformer.bench.engines import version_of
from slideformer.bench.measurement import RESET
from slideformer.cli.bench_deploy import MODELS_HELP, OPTIONS
from slideformer.cli.main import main
from slideformer.deploy import RUNTIMES
from slideformer.errors import UserError
from tests.shared import made_once

NANO = ("slide_swin_nano", "--size", "32", "--rounds", "1")


def bench(*words: object) -> int:
    return main(["bench", "deploy", *NANO, *map(str, words)])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a first run left: ``figures.json``, and exported files under ``files``."""

    def measure(folder: Path) -> None:
        words = ("--to", "eager", "onnx", "--threads", 1, "--keep", folder / "files")
        assert bench(*words, *json_in(folder)) == 0

    return made_once(tmp_path_factory, "kept", measure)


def json_in(folder: Path) -> tuple[str, Path]:
    return "--json", folder / "figures.json"


def figures(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "figures.json").read_text())
    return found


def forbid_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    def export(*_: object, **__: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(engines, "export_model", export)


@pytest.mark.slow
def test_every_model_is_measured_in_every_runtime(kept: Path) -> None:
    data = figures(kept)
    assert (data["kind"], data["view"], data["notes"]) == ("deploy", "size", [])
    rows = {(row["runtime"], row["model"]): row for row in data["rows"]}
    models = ("slide_swin_nano, plain host", "slide_swin_nano", "slide_swin_nano, Im2Col")
    assert list(rows) == [(runtime, model) for runtime in ("PyTorch", "ONNX Runtime") for model in models]
    assert [row["form"] for row in rows.values()][3:] == ["", "matmul", "unfold"]
    assert all(row["timing"]["error"] < 1e-4 for row in rows.values())
    assert all(row["file_mib"] is None for place, row in rows.items() if place[0] == "PyTorch")
    weights = 4 * 1_600_000 / 2**20
    for row in rows.values():
        if RESET.exists():  # the system reports peak memory
            assert row["timing"]["memory_mib"] > weights
    assert rows["ONNX Runtime", "slide_swin_nano"]["file_mib"] > weights


@pytest.mark.slow
def test_the_conditions_name_threads_runtimes_and_the_command(kept: Path) -> None:
    facts = figures(kept)["conditions"]
    assert facts["threads"] == "1"
    assert facts["packages"].keys() == {"onnxruntime"}
    assert facts["command"].endswith(
        "slideformer bench deploy slide_swin_nano --to eager onnx --precision float32 --threads 1 --size 32 "
        "--batch 1 --rounds 1"
    )


def test_the_help_names_views_and_their_models() -> None:
    assert set(OPTIONS) == set(VIEWS)
    assert all(name in MODELS_HELP for view in VIEWS.values() for name in view.models)


def test_a_package_has_a_version_whatever_distributes_it() -> None:
    assert version_of("torch") == version("torch")
    assert version_of("PIL") == version("pillow")
    assert version_of("of_nobody") == "unknown"


@pytest.mark.slow
def test_files_that_match_are_used_again_and_more_threads_than_cores_are_allowed(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forbid_exports(monkeypatch)
    before, many = torch.get_num_threads(), (os.cpu_count() or 1) + 1
    assert bench("--to", "onnx", "--threads", many, 1, "--keep", kept / "files", *json_in(tmp_path)) == 0
    data = figures(tmp_path)
    assert [row["threads"] for row in data["rows"]] == [1] * 3 + [many] * 3
    assert data["conditions"]["threads"] == f"1 and {many}"
    assert torch.get_num_threads() == before
    assert restore(data).table.text() in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("change", ["cut", "other weights"])
def test_a_file_that_does_not_match_is_written_again(
    change: str, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "slide_swin_nano-matmul-float32-1x32x32.onnx"
    other = "slide_swin_nano-host-matmul-float32-1x32x32.onnx"
    content = (kept / "files" / (name if change == "cut" else other)).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2] if change == "cut" else content)
    forbid_exports(monkeypatch)
    (variant,) = [v for v in equal_size(["slide_swin_nano"]) if v.label == "slide_swin_nano"]
    subject = engines.Subject(variant, variant.build(32), torch.zeros(1, 3, 32, 32), "float32", tmp_path)
    with pytest.raises(AssertionError, match="exported again"):
        engines.exported(RUNTIMES["onnx"], subject, "matmul")


@pytest.mark.slow
def test_an_interrupted_measurement_of_forms_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployed, "FORMS", ("matmul", "shift"))
    words = ("--forms", "--threads", 1, "--to", "openvino", "--keep", tmp_path, *json_in(tmp_path))
    writer = engines.export_model

    def interrupted(model: Any, file: Path, *rest: Any, **options: Any) -> Any:
        if "shift" in file.name:
            raise KeyboardInterrupt
        return writer(model, file, *rest, **options)

    monkeypatch.setattr(engines, "export_model", interrupted)
    assert bench(*words) == 130
    written = {file.name for file in tmp_path.glob("*.xml")}
    assert written == {"slide_swin_nano-matmul-float32-1x32x32.xml"}
    again: list[str] = []

    def counted(model: Any, file: Path, *rest: Any, **options: Any) -> Any:
        again.append(file.name.split("-")[1])
        return writer(model, file, *rest, **options)

    monkeypatch.setattr(engines, "export_model", counted)
    assert bench(*words) == 0
    assert again == ["shift"]
    data = figures(tmp_path)
    assert data["view"] == "forms"
    assert [row["form"] for row in data["rows"]] == ["matmul", "shift"]


@pytest.mark.slow
def test_a_model_that_a_runtime_does_not_take_is_left_out_with_a_note(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def export(model: Any, file: Path, *_: object, **__: object) -> None:
        raise UserError("the file must agree; nothing was kept")

    monkeypatch.setattr(engines, "export_model", export)
    words = ("--precision", "float32", "int8", "--to", "eager", "onnx", "--threads", 1)
    assert bench(*words, "--keep", kept / "files") == 0
    out = capsys.readouterr().out
    assert "PyTorch left out: it has no int8" in out
    assert "slide_swin_nano, Im2Col in ONNX Runtime, int8, left out: the file must agree" in out
    assert bench("--precision", "int8", "--to", "eager") == 2
    assert "nothing is left to measure: PyTorch left out: it has no int8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--threads", 0), "--threads must be a whole number from 1 to "),
        (("--rounds", 0), "--rounds must be a whole number from 1 to "),
        (("--size", 0), "--size must be a whole number from 1 to "),
        (("--json", "nowhere/figures.json"), "--json must be in a folder that exists"),
        (("--keep", __file__), "--keep must be a folder, got the file"),
        (("--equal-accuracy",), "must be one whose top-1 has been published, got slide_swin_nano"),
        (("--equal-accuracy", "--forms"), "not allowed with argument"),
        (("--to", "executorch", "--batch", 2), "a file for ExecuTorch takes one image, got --batch 2; use 1"),
        (("--to", "tensorrt"), "invalid choice: 'tensorrt'"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line(
    words: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*words) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_model_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "deploy", "slide_swim_tiny"]) == 2
    assert "did you mean slide_swin_tiny" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")
def test_a_runtime_of_another_system_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--to", "coreml") == 2
    assert "Core ML runs on darwin alone; leave coreml out of --to" in capsys.readouterr().err


def test_a_runtime_that_only_checks_files_here_is_left_out_unless_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usable = {"batch": 1, "precisions": ["float32"]}
    assert "onnx" in engines.usable(**usable)
    monkeypatch.setitem(RUNTIMES, "onnx", replace(RUNTIMES["onnx"], made_for="another system"))
    assert "onnx" not in engines.usable(**usable)
    assert "onnx" in engines.ENGINES


def test_a_file_that_computes_something_else_is_not_timed() -> None:
    with pytest.raises(UserError, match="x in A must agree with the reference"):
        check("x in A", torch.zeros(1, 3), torch.ones(1, 3))
