# SPDX-License-Identifier: Apache-2.0
"""Write the tables of the documentation anew from the measurements in ``results/``.

A page says where a table goes, and of which measurement:

    <!-- bench: operator-56-forward-native -->
    ...
    <!-- end -->
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slideformer.bench import comparison_from_dict, comparison_markdown, from_dict, hosts_markdown, markdown
from slideformer.files import write_text

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGES = (HERE.parent / "README.md", DOCS / "performance.md", DOCS / "patterns.md")
PLACE = re.compile(r"(<!-- bench: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

# Kind of a measurement -> its table; `slideformer bench` writes none.
TABLES: dict[str | None, Callable[[Mapping[str, Any]], str]] = {
    None: lambda figures: markdown(*from_dict(figures)),
    "hosts": lambda figures: hosts_markdown(*from_dict(figures)),
    "compare": lambda figures: comparison_markdown(*comparison_from_dict(figures)),
}


def render(page: str) -> str:
    """The page with every table as its measurement says."""

    def table(place: re.Match[str]) -> str:
        figures = json.loads((HERE / "results" / f"{place[2]}.json").read_text(encoding="utf-8"))
        return f"{place[1]}{TABLES[figures.get('kind')](figures)}\n{place[3]}"

    return PLACE.sub(table, page)


if __name__ == "__main__":
    for path in PAGES:
        write_text(path, render(path.read_text(encoding="utf-8")))
