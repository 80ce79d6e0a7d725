# SPDX-License-Identifier: Apache-2.0
"""The parts of the site that are not Sphinx's: its directive, its links, its images."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("sphinx", reason="needs sphinx, of the extra docs")

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))

import figures  # noqa: E402
from site_parts.command_line import help_of  # noqa: E402
from site_parts.docstrings import keep_colons  # noqa: E402
from site_parts.links import leave_the_site  # noqa: E402


def test_the_help_of_a_verb_is_what_it_prints() -> None:
    assert help_of(["scenes"]).startswith("usage: slideformer scenes")
    assert help_of(["bench", "operator"]).startswith("usage: slideformer bench operator")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[code](../src/slideformer/lazy.py)", "[code](path:../src/slideformer/lazy.py)"),
        ("[page](../CONTRIBUTING.md#words)", "[page](path:../CONTRIBUTING.md)"),
        ("[all](../benchmarks/results)", "all"),
        ("[other](operator.md#borders)", "[other](operator.md#borders)"),
        ("[back](../docs/operator.md)", "[back](../docs/operator.md)"),
    ],
)
def test_links_out_of_the_site_become_downloads(text: str, shown: str) -> None:
    app = SimpleNamespace(srcdir=DOCS, env=SimpleNamespace(doc2path=lambda name: DOCS / f"{name}.md"))
    source = [f"See {text}."]
    leave_the_site(app, "performance", source)
    assert source == [f"See {shown}."]


def test_a_colon_in_a_result_does_not_make_a_type_of_the_words_before_it() -> None:
    from sphinx.ext.napoleon import Config, GoogleDocstring

    lines = ["Evaluate.", "", "Returns:", "    The figures: a table."]
    keep_colons(None, "function", "evaluate", None, None, lines)
    shown = str(GoogleDocstring(lines, Config()))
    assert "rtype" not in shown
    assert "The figures: a table." in shown


def test_a_colon_in_a_property_does_not_make_a_type_of_the_words_before_it() -> None:
    from sphinx.ext.napoleon import Config, GoogleDocstring

    lines = ["The task: one of three."]
    keep_colons(None, "property", "task", None, None, lines)
    shown = str(GoogleDocstring(lines, Config(), what="property", obj=property()))
    assert ":type:" not in shown
    assert "The task: one of three." in shown


def test_the_images_of_the_explanation_are_those_that_the_script_draws(tmp_path: Path) -> None:
    page = (DOCS / "explanation.md").read_text(encoding="utf-8")
    images = {name: alt for alt, name in re.findall(r"!\[([^\]]+)\]\(images/(\S+)\.png\)", page)}
    assert list(images) == list(figures.FIGURES)
    assert min(map(len, images.values())) > 60  # they say what is to be seen
    for file in figures.draw(tmp_path):
        kept = figures.IMAGES / file.name
        drawn, before = (np.asarray(Image.open(x).convert("L"), float) for x in (file, kept))
        assert drawn.shape == before.shape
        assert np.abs(drawn - before).mean() < 1  # but for the version of the font's renderer
    assert sum((figures.IMAGES / f"{name}.png").stat().st_size for name in images) < 400_000
