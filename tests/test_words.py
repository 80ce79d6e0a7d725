# SPDX-License-Identifier: Apache-2.0
"""Messages, help, docstrings and pages use the words of the glossary in CONTRIBUTING.md."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The table of the glossary itself.
TABLE = (
    (ROOT / "CONTRIBUTING.md")
    .read_text(encoding="utf-8")
    .split("<!-- glossary -->")[1]
    .split("<!-- end -->")[0]
)
PAGES = [
    *(page for page in ROOT.glob("*.md") if page.name != "CHANGELOG.md"),
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "runtime" / "README.md",
]
SOURCES = [*(ROOT / "src").rglob("*.py"), *(ROOT / "runtime" / "src").rglob("*.py")]


def banned() -> list[str]:
    """The words that the glossary replaces."""
    rows = [row.split("|")[2] for row in TABLE.splitlines() if row.startswith("|")][2:]
    return [word.strip() for row in rows for word in row.split(",") if word.strip()]


WORDS = re.compile(rf"\b({'|'.join(map(re.escape, banned()))})\b", re.IGNORECASE)


# Names of code, and phrases in which a banned word is right.
ALLOWED = re.compile(
    r"``?[^`]*``?|\{[^{}]*\}|there (is|are) no|stands? for|no such|no longer|beside:", re.IGNORECASE
)
# Parts of a page that are code, links, or written by a measurement.
GENERATED = re.compile(r"```.*?```|<!-- bench:.*?<!-- end -->|\]\([^)]*\)", re.DOTALL)


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Comments, docstrings and messages of a source, with the number of their line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)):
            text = ALLOWED.sub("", token.string)
            if " " in text:  # a single word may be the name of an option or of an entry of a file
                yield token.start[0], text


def found(lines: Iterator[tuple[int, str]]) -> list[str]:
    """Banned words, with their lines."""
    return [f"line {number}: {word}" for number, text in lines for word in WORDS.findall(text)]


def test_a_banned_word_is_found_in_prose_only() -> None:
    assert len(banned()) >= 25
    source = 'beside = "beside"\n# it lies beside\nx = f"told {beside} anew"\n'
    assert [line.split(": ")[1] for line in found(prose(source))] == ["lies", "beside", "told", "anew"]


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_source_uses_plain_words(file: Path) -> None:
    assert found(prose(file.read_text(encoding="utf-8"))) == []


CONTEXT = re.compile(r"(Of|What|As|Whose)\b")


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_first_line_of_a_docstring_makes_sense_without_its_context(file: Path) -> None:
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    lines = [(ast.get_docstring(node) or "").partition("\n")[0] for node in nodes if isinstance(node, kinds)]
    assert [line for line in lines if CONTEXT.match(line)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_uses_plain_words(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if page.name == "CONTRIBUTING.md":
        text = text.replace(TABLE, "")
    text = ALLOWED.sub("", GENERATED.sub("", text))
    assert found(iter(enumerate(text.splitlines(), start=1))) == []
