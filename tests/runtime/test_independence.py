# SPDX-License-Identifier: Apache-2.0
"""The runtime needs neither slideformer nor PyTorch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.test_layering import imported

SOURCE = Path(__file__).parents[2] / "runtime" / "src" / "slideformer_runtime"
FILES = sorted(SOURCE.rglob("*.py"))
NEEDED = {"slideformer_runtime", "numpy", "PIL"}
# Only this file imports an engine's package, inside functions.
ENGINES = {"engines.py": {"onnxruntime", "openvino"}}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_file_imports_only_what_the_runtime_needs(file: Path) -> None:
    roots = {name.split(".")[0] for name in imported(file.read_text(encoding="utf-8"))}
    allowed = NEEDED | ENGINES.get(str(file.relative_to(SOURCE)), set())
    assert roots - allowed <= sys.stdlib_module_names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_file_names_its_licence_and_is_of_readable_length(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    assert len(text.splitlines()) <= 200
