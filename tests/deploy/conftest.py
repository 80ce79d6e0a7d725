# SPDX-License-Identifier: Apache-2.0
"""Slow exports without the search for garbage, which takes longer than they do."""

from __future__ import annotations

import gc
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Collect garbage behind a slow test and its fixtures: exporters make millions of objects that stay."""
    if item.get_closest_marker("slow") is None:
        return (yield)
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
