# SPDX-License-Identifier: Apache-2.0
"""Docstrings with types in annotations only, as napoleon takes them."""

from __future__ import annotations

from sphinx.application import Sphinx

VALUES = ("attribute", "data", "property")
SECTIONS = ("Returns:", "Yields:")
# Nothing, in reStructuredText. napoleon takes the words before a first line's colon as a type.
NOTHING = "\\ "


def keep_colons(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Begin with a line that has no colon, where napoleon looks for a type."""
    places = [n + 1 for n, line in enumerate(lines) if line.strip() in SECTIONS]
    for place in reversed(places):
        indent = lines[place][: len(lines[place]) - len(lines[place].lstrip())]
        lines.insert(place, indent + NOTHING)
    if what in VALUES and lines:
        lines.insert(0, NOTHING)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect it, before napoleon."""
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
    return {"parallel_read_safe": True}
