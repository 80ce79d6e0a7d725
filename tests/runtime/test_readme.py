# SPDX-License-Identifier: Apache-2.0
"""The runtime's README is checked."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from slideformer_runtime.command import parser
from slideformer_runtime.facts import KEYS

from tests.test_readme import commands, python_blocks

README = Path(__file__).parents[2] / "runtime" / "README.md"


def test_its_python_runs(
    models: dict[str, Path],
    images: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(models["classify"], tmp_path / "model.onnx")
    shutil.copy(images["turned_by_exif.jpg"], tmp_path / "photo.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    monkeypatch.chdir(tmp_path)
    (block,) = python_blocks(README.read_text(encoding="utf-8"))
    exec(compile(block, "README.md", "exec"), {})
    *classes, predicted, left_out = capsys.readouterr().out.splitlines()
    assert len(classes) == 3
    assert re.fullmatch(r"photo\.jpg(  (red|green|blue) [\d.]+ %){3}", predicted)
    assert left_out.startswith("left out: broken.jpg (UnidentifiedImageError")


def test_its_commands_have_options_that_exist() -> None:
    options = set(re.findall(r" (--[a-z]+)", commands(README))) - {"--no-compile"}
    assert options
    assert options <= set(parser().format_help().replace(",", " ").split())


def test_it_names_every_key_of_a_file() -> None:
    text = README.read_text(encoding="utf-8")
    assert [key for key in KEYS if f"`{key}`" not in text] == []
