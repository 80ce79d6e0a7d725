# SPDX-License-Identifier: Apache-2.0
"""The documentation site, which `make docs` builds from the pages here and from docstrings."""

from __future__ import annotations

import sys
from pathlib import Path

from slideformer.version import __version__

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent / "runtime" / "src")]

project = "slideformer"
author = "The slideformer authors"
project_copyright = author
release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "site_parts.command_line",
    "site_parts.docstrings",
    "site_parts.links",
]

html_theme = "furo"
html_title = f"slideformer {release}"
html_show_sphinx = False
html_static_path = ["site_parts/static"]
html_css_files = ["wide.css"]
highlight_language = "text"

# Anchors are those that GitHub makes of headings.
myst_heading_anchors = 4

# A name in backquotes is a link where it is one of ours; arguments and others are code.
default_role = "py:obj"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Keys", "params_style")]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
python_use_unqualified_type_names = True

nitpick_ignore_regex = [
    ("py:obj", r"(?!slideformer).*"),
    ("py:class", r"slideformer\.bench\.report\.Result"),  # a type variable
    # Types of other libraries, whose pages cannot be asked without a network.
    ("py:.*", r"(PIL|collections|numpy|os|pathlib|torch)\..*|nn\.Module"),
]
