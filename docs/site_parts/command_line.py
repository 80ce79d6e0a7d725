# SPDX-License-Identifier: Apache-2.0
"""A directive of the site, ``help``: what the command line prints for ``--help``."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout, suppress
from unittest.mock import patch

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from slideformer.cli.main import main

COLUMNS = "88"


def help_of(words: list[str]) -> str:
    """The help of a verb, or of what is below it, as it is printed."""
    printed = io.StringIO()
    # argparse fits its lines to the terminal, and ends the process.
    with redirect_stdout(printed), patch.dict(os.environ, COLUMNS=COLUMNS), suppress(SystemExit):
        main([*words, "--help"])
    return printed.getvalue().strip()


class Help(SphinxDirective):
    """A heading and the help of each line of the content, which has the words after ``slideformer``."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """One section a line."""
        return [self.section(line) for line in self.content]

    def section(self, line: str) -> nodes.section:
        """The section of one verb."""
        section = nodes.section(ids=[nodes.make_id(line)], names=[nodes.fully_normalize_name(line)])
        text = help_of(line.split())
        section += [nodes.title(line, line), nodes.literal_block(text, text, language="text")]
        return section


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("help", Help)
    return {"parallel_read_safe": True}
