# SPDX-License-Identifier: Apache-2.0
"""A table as text and as Markdown, with the conditions that its figures hold under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Rows of words and figures.

    Attributes:
        headings: one a column.
        rows: the cells of each line, as many as there are headings.
        conditions: of the figures, in a sentence.
        notes: further sentences, on single rows or on what was left out.
        words: headings of the columns that are aligned left, as the first one always is; figures are
            aligned right.
    """

    headings: list[str]
    rows: list[list[str]]
    conditions: str
    notes: list[str] = field(default_factory=list)
    words: tuple[str, ...] = ()

    def text(self) -> str:
        """Aligned columns for a terminal, then conditions and notes."""
        lines = [self.headings, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        places = [str.ljust if left else str.rjust for left in self._left()]
        aligned = [
            "  ".join(put(cell, width) for put, cell, width in zip(places, line, widths, strict=True))
            for line in lines
        ]
        return "\n".join([*(line.rstrip() for line in aligned), "", self.conditions, *self.notes])

    def markdown(self) -> str:
        """A Markdown table for a page, then conditions and a list of notes."""
        head, *rows = (f"| {' | '.join(map(escape_cell, line))} |" for line in [self.headings, *self.rows])
        rule = "".join("|---" if left else "|---:" for left in self._left())
        notes = ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n".join([head, f"{rule}|", *rows, "", escape_stars(self.conditions), *notes])

    def _left(self) -> list[bool]:
        """Whether each column is aligned left."""
        return [i == 0 or name in self.words for i, name in enumerate(self.headings)]


def escape_cell(cell: str) -> str:
    """Text that ends no cell of a Markdown table and starts no emphasis."""
    return cell.replace("*", r"\*").replace("|", r"\|")


def escape_stars(sentence: str) -> str:
    """A sentence whose stars start no emphasis in Markdown; code in backquotes stays unchanged."""
    parts = sentence.split("`")
    return "`".join(part if i % 2 else part.replace("*", r"\*") for i, part in enumerate(parts))


def milliseconds(value: float) -> str:
    """A time, with more digits for short ones."""
    return f"{value:.{1 if value >= 1 else 3}f}"


def mebibytes(value: float | None) -> str:
    """Memory, or a dash where it could not be measured."""
    return "-" if value is None else f"{max(0.0, value):.1f}"


def span(values: Sequence[float]) -> str:
    """Quartiles of a time in milliseconds."""
    return "-".join(f"{value:.1f}" for value in values)


def percent(part: float, total: float) -> str:
    """A share in percent."""
    return f"{100 * part / total:.0f} %"
