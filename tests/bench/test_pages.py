# SPDX-License-Identifier: Apache-2.0
"""Tables in the documentation are those of the measurements that are kept, and of the models."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tests.tiers import fast

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("render", ROOT / "benchmarks" / "render.py")
assert SPEC is not None
assert SPEC.loader is not None
RENDER = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(RENDER)


# The others count all models, which takes a minute a page.
MEASURED = [path for path in RENDER.PAGES if not RENDER.MODELS.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", fast(RENDER.PAGES, *MEASURED), ids=lambda path: path.name)
def test_a_page_shows_what_was_measured(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert RENDER.PLACE.search(page) or RENDER.MODELS.search(page)
    assert RENDER.render(page) == page


def test_every_measurement_is_shown() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in RENDER.PAGES)
    shown = set(re.findall(r"<!-- bench: (\S+) -->", pages))
    assert shown >= {path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json")}


def test_a_table_that_was_not_measured_says_so() -> None:
    page = "<!-- bench: of-nothing -->\n| 1 | 2 |\n<!-- end -->"
    assert RENDER.render(page) == "<!-- bench: of-nothing -->\nNot yet run.\n<!-- end -->"


def test_accuracies_stand_in_the_tables_of_their_measurements_alone() -> None:
    page = RENDER.PLACE.sub("", (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8"))
    assert re.findall(r"\d+(?:\.\d+)? ?%|\d+\.\d+", page) == []
