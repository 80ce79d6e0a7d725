# SPDX-License-Identifier: Apache-2.0
"""A comparison of patterns as a table and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from slideformer.bench.comparison import Comparison, Maps, Row
from slideformer.bench.machine import Machine
from slideformer.bench.report import aligned, headline, mebibytes, milliseconds, piped, span

KIND = "compare"
COLUMNS: dict[str, Callable[[Row], str]] = {
    "pattern": lambda row: row.name,
    "as in": lambda row: row.used_by,
    "parameters": lambda row: str(row.parameters),
    "multiply-adds M": lambda row: f"{row.multiply_adds / 1e6:.1f}",
    "median ms": lambda row: milliseconds(row.median_ms),
    "quartiles ms": lambda row: span(row.quartiles_ms),
    "extra MiB": lambda row: mebibytes(row.memory_mib),
    "sees": lambda row: str(row.sees),
    "reach": lambda row: str(row.reach),
    "keys": lambda row: row.keys,
    "runs in": lambda row: ", ".join(row.runtimes),
    "rank": lambda row: str(row.rank),
}
WORDS = ("as in", "keys", "runs in")


def comparison_table(comparison: Comparison) -> list[list[str]]:
    """Headings, then one line a pattern."""
    return [list(COLUMNS), *([cell(row) for cell in COLUMNS.values()] for row in comparison.rows)]


def conclusion(comparison: Comparison, facts: Mapping[str, Any]) -> str:
    """The conditions in a sentence, and whose sight was measured."""
    row, column = comparison.maps.query
    sight = f"sees and reach: of the query in row {row}, column {column}, counted from 0"
    return f"{headline(facts, comparison.machine)}; {sight}"


def comparison_markdown(comparison: Comparison, facts: Mapping[str, Any]) -> str:
    """A table for a page, its conditions below."""
    table = piped(comparison_table(comparison), WORDS)
    return "\n".join([*table, "", conclusion(comparison, facts), *comparison.notes])


def comparison_text(comparison: Comparison, facts: Mapping[str, Any]) -> str:
    """An aligned table for a terminal, its conditions above."""
    table = aligned(comparison_table(comparison), WORDS)
    return "\n".join([conclusion(comparison, facts), "", *table, *comparison.notes])


def comparison_to_dict(comparison: Comparison, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions and figures as plain values."""
    return {"kind": KIND, "conditions": dict(facts), **asdict(comparison)}


def comparison_from_dict(figures: Mapping[str, Any]) -> tuple[Comparison, dict[str, Any]]:
    """Comparison and conditions of what `comparison_to_dict` made."""
    maps = Maps(**{**figures["maps"], "query": tuple(figures["maps"]["query"])})
    rows = [
        Row(**{**row, "quartiles_ms": tuple(row["quartiles_ms"]), "runtimes": tuple(row["runtimes"])})
        for row in figures["rows"]
    ]
    comparison = Comparison(maps, rows, Machine(**figures["machine"]), list(figures["notes"]))
    return comparison, dict(figures["conditions"])
