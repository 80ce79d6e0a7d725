# SPDX-License-Identifier: Apache-2.0
"""Images and models for the tests of the runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.files import classifier, detector, segmenter
from tests.runtime.made_images import write_images


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real images and made ones, of every kind that a folder may hold, by their names."""
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small file of each task, by its name."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "classify": classifier(folder / "classify.onnx"),
        "segment": segmenter(folder / "segment.onnx"),
        "detect": detector(folder / "detect.onnx"),
    }
