# SPDX-License-Identifier: Apache-2.0
"""The runtime stands alone, and is tested from its source, installed or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.files import classifier, detector, segmenter
from tests.runtime.made_pictures import write_pictures


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real pictures and made ones, of every kind that a folder may hold, by their names."""
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small file of each task, by its name."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "classify": classifier(folder / "classify.onnx"),
        "segment": segmenter(folder / "segment.onnx"),
        "detect": detector(folder / "detect.onnx"),
    }
