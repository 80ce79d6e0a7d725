# SPDX-License-Identifier: Apache-2.0
"""Links that Sphinx and MyST do not find by themselves."""

from __future__ import annotations

import re
from pathlib import Path

from docutils.nodes import Element, reference
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

LINK = re.compile(r"(?<!!)\[([^\[\]]*)\]\((\.\./[^)#\s]*)(?:#[^)\s]*)?\)")
# Words such as `save` have many meanings; a name of these kinds, of two words or with a capital, has one.
KINDS = ("class", "exception", "function", "type")
NAME = re.compile(r"[A-Z]\w+|\w+_\w+")


def leave_the_site(app: Sphinx, page: str, source: list[str]) -> None:
    """Make downloads of files in the repository that a page links to, and text of its folders."""
    folder = Path(app.env.doc2path(page)).parent

    def replaced(link: re.Match[str]) -> str:
        text, target = link.groups()
        path = (folder / target).resolve()
        if path.is_relative_to(app.srcdir):
            return link[0]
        return text if path.is_dir() else f"[{text}](path:{target})"

    source[0] = LINK.sub(replaced, source[0])


def find_by_last_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element
) -> reference | None:
    """The link to a Python name that a docstring or an annotation gives without its module."""
    name = node.get("reftarget", "").rpartition(".")[2]
    if node.get("refdomain") != "py" or not NAME.fullmatch(name):
        return None
    objects = env.domains.python_domain.objects
    found = [
        (full, entry)
        for full, entry in objects.items()
        if full.rpartition(".")[2] == name and entry.objtype in KINDS and not entry.aliased
    ]
    package = (node.get("py:module") or "").partition(".")[0]
    found = [(full, entry) for full, entry in found if full.startswith(f"{package}.")] or found
    if len(found) != 1:
        return None
    full, entry = found[0]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, full)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect both."""
    app.connect("source-read", leave_the_site)
    app.connect("missing-reference", find_by_last_name)
    return {"parallel_read_safe": True}
