# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from tests.tasks.segment.pictures import write_set


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A small set, to be changed at will."""
    return write_set(tmp_path / "labelled")
