# SPDX-License-Identifier: Apache-2.0
"""Write the tables of the documentation anew from the measurements in ``results/``.

A page says where a table goes, and of which measurement:

    <!-- bench: operator-56-forward-native -->
    ...
    <!-- end -->

and where a table of models goes, which are counted anew: ``<!-- models: full -->``, ``short``, ``detect``
or
``segment``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from slideformer.bench import (
    comparison_from_dict,
    comparison_markdown,
    deployment_from_dict,
    deployment_markdown,
    detector_markdown,
    from_dict,
    hosts_markdown,
    markdown,
)
from slideformer.bench.report import piped
from slideformer.cli import dense_models, models
from slideformer.files import write_text

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGES = (
    HERE.parent / "README.md",
    *(DOCS / f"{name}.md" for name in ("dense", "deploy", "models", "patterns", "performance")),
)
MODELS = re.compile(r"(<!-- models: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
PLACE = re.compile(r"(<!-- bench: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def families(rows: Mapping[str, Mapping[str, str]], facts: Mapping[str, str]) -> str:
    """How far a small model of every family is from itself in each runtime, relative to its largest logit."""
    runtimes = list(next(iter(rows.values())))
    lines = [
        ["family", *runtimes],
        *([name, *(row[runtime] for runtime in runtimes)] for name, row in rows.items()),
    ]
    conditions = "{processor}, PyTorch {torch}, commit {commit}, {date}; `{command}`".format(**facts)
    return "\n".join([*piped(lines), "", conditions])


# Kind of a measurement -> its table; `slideformer bench` writes none.
TABLES: dict[str | None, Callable[[Mapping[str, Any]], str]] = {
    None: lambda figures: markdown(*from_dict(figures)),
    "hosts": lambda figures: hosts_markdown(*from_dict(figures)),
    "detector": lambda figures: detector_markdown(*from_dict(figures)),
    "compare": lambda figures: comparison_markdown(*comparison_from_dict(figures)),
    "deploy": lambda figures: deployment_markdown(*deployment_from_dict(figures)),
    "families": lambda figures: families(figures["rows"], figures["conditions"]),
}
# In place of a table whose measurement is not kept.
NOT_YET = "Not yet run."

COLUMNS = {
    "full": tuple(models.COLUMNS),
    "short": ("model", "parameters M", "multiply-adds G", "paper top-1"),
}


@cache
def counted() -> list[models.Row]:
    """Every model, counted."""
    return [models.describe(name) for name in models.matching("slide_*")]


@cache
def dense(task: str) -> str:
    """The paper's models of a dense task, counted."""
    return dense_models.report(task, "markdown")


def render(page: str) -> str:
    """The page with every table as its measurement says."""

    def table(place: re.Match[str]) -> str:
        file = HERE / "results" / f"{place[2]}.json"
        if not file.exists():
            return f"{place[1]}{NOT_YET}\n{place[3]}"
        figures = json.loads(file.read_text(encoding="utf-8"))
        return f"{place[1]}{TABLES[figures.get('kind')](figures)}\n{place[3]}"

    def zoo(place: re.Match[str]) -> str:
        if place[2] in dense_models.TABLES:
            return f"{place[1]}{dense(place[2])}\n{place[3]}"
        return f"{place[1]}{models.markdown(counted(), COLUMNS[place[2]])}\n{place[3]}"

    return MODELS.sub(zoo, PLACE.sub(table, page))


if __name__ == "__main__":
    for path in PAGES:
        write_text(path, render(path.read_text(encoding="utf-8")))
