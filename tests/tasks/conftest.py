# SPDX-License-Identifier: Apache-2.0
"""A fixture of the tasks' drawings."""

from __future__ import annotations

from typing import Any

import pytest

from slideformer import viz
from slideformer.viz.sheet import Part


@pytest.fixture
def sheet(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The title, tiles and options of what is drawn as a sheet."""
    said: dict[str, Any] = {}

    def keep(title: str, parts: list[Part], **options: Any) -> None:
        said.update(title=title, tiles=[tile for part in parts for tile in part.tiles], **options)

    monkeypatch.setattr(viz, "draw_sheet", keep)
    return said
