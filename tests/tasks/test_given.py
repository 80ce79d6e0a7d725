# SPDX-License-Identifier: Apache-2.0
"""The sources of a prediction are found in time linear in their number, each once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from slideformer.tasks import given


class Counted(type(Path())):  # type: ignore[misc]
    """A path that counts how often paths are looked up."""

    hashed = 0

    def __hash__(self) -> int:
        Counted.hashed += 1
        return super().__hash__()


def test_each_path_is_looked_up_a_fixed_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_images(names: Sequence[str]) -> list[Path]:
        return [Counted(name) for name in names]

    monkeypatch.setattr(given, "find_images", find_images)
    names = [f"{number}.jpg" for number in range(200)]
    assert [str(path) for path in given.find_sources([*names, *names])] == names
    assert Counted.hashed <= 4 * len(names)
