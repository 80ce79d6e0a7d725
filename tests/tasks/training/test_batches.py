# SPDX-License-Identifier: Apache-2.0
"""Processes that read are started by themselves only where that needs no guard in the user's script."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest

from slideformer.tasks.training import batches
from slideformer.tasks.training.batches import MANY, Batch, Workers, ordered_loader


def workers(asked: Workers, images: int) -> int:
    data: Any = list(range(images))
    return ordered_loader(data, lambda x: Batch(x, x), batch_size=1, num_workers=asked).num_workers


@pytest.mark.parametrize("chosen", [True, False], ids=["chosen", "by default"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_the_default_starts_processes_only_where_they_are_forked(
    method: str, chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda *, allow_none: method if chosen else None)
    monkeypatch.setattr(batches, "usual_workers", lambda: 1)
    other = "spawn" if chosen else method
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: [other, "fork"])
    assert workers(None, MANY) == (method == "fork")
    assert workers(None, MANY - 1) == 0
    assert workers("auto", MANY) == 1
    assert workers("auto", MANY - 1) == 0
    assert workers(1, 1) == 1
