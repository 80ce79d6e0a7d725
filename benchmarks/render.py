# SPDX-License-Identifier: Apache-2.0
"""Write the tables of the documentation again, from the measurements in ``results/``.

A page says where a table goes, and of which measurement:

    <!-- bench: operator-56-forward-native -->
    ...
    <!-- end -->

and where a table of models goes, which are counted again: ``<!-- models: full -->``, ``detect`` or
``segment``.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from slideformer.bench import restore, zoo
from slideformer.files import write_text

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGES = (
    HERE.parent / "README.md",
    *(DOCS / f"{name}.md" for name in ("accuracy", "dense", "deploy", "models", "patterns", "performance")),
)
MODELS = re.compile(r"(<!-- models: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
PLACE = re.compile(r"(<!-- bench: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


# In place of a table whose measurement is not kept.
NOT_YET = "Not yet run."


def measured(name: str) -> str:
    """The table of a measurement that is kept."""
    file = HERE / "results" / f"{name}.json"
    if not file.exists():
        return NOT_YET
    return restore(json.loads(file.read_text(encoding="utf-8"))).table.markdown()


@cache
def counted(name: str) -> str:
    """A table of models: ``full``, of all classifiers, or those of a dense task."""
    if name in zoo.DENSE_TASKS:
        return zoo.dense_table(name, zoo.dense_counts(name)).markdown()
    rows = [zoo.model_counts(name) for name in zoo.matching("slide_*")]
    return zoo.models_table(rows).markdown()


def render(page: str) -> str:
    """The page with every table as its measurement says."""
    page = PLACE.sub(lambda place: f"{place[1]}{measured(place[2])}\n{place[3]}", page)
    return MODELS.sub(lambda place: f"{place[1]}{counted(place[2])}\n{place[3]}", page)


if __name__ == "__main__":
    for path in PAGES:
        write_text(path, render(path.read_text(encoding="utf-8")))
