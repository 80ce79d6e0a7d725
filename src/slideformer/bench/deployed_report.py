# SPDX-License-Identifier: Apache-2.0
"""Models in other runtimes as tables and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from slideformer.bench.deployed import Deployed, Deployment
from slideformer.bench.hosts import HOST
from slideformer.bench.machine import Machine
from slideformer.bench.report import (
    aligned,
    headline,
    measurement_from_dict,
    mebibytes,
    milliseconds,
    piped,
    span,
)

KIND = "deploy"
WORDS = ("model", "runtime", "form", "precision", "plain host of")

# A row, and what it is compared with; None where that was left out.
Cell = Callable[[Deployed, Deployed | None], str]


def times_as_fast(row: Deployed, other: Deployed | None) -> str:
    """How often as fast a row is, or a dash where the other one is not there."""
    return "-" if other is None else f"{other.timing.median_ms / row.timing.median_ms:.2f}"


def of_host(cell: Callable[[Deployed], str]) -> Cell:
    """The same of what a row is compared with."""
    return lambda row, other: "-" if other is None else cell(other)


def percent(value: float | None) -> str:
    """A top-1."""
    return "-" if value is None else f"{value:.1f}"


def difference(row: Deployed, other: Deployed | None) -> str:
    """Of the published top-1."""
    if other is None or row.top1 is None or other.top1 is None:
        return "-"
    return f"{row.top1 - other.top1:+.1f}"


PLACE: dict[str, Cell] = {
    "runtime": lambda row, other: row.runtime,
    "precision": lambda row, other: row.precision,
    "threads": lambda row, other: str(row.threads),
}
TIMES: dict[str, Cell] = {
    "ms": lambda row, other: milliseconds(row.timing.median_ms),
    "quartiles ms": lambda row, other: span(row.timing.quartiles_ms),
}
FORM: dict[str, Cell] = {"form": lambda row, other: row.form or "-"}
COSTS: dict[str, Cell] = {
    "load + call MiB": lambda row, other: mebibytes(row.timing.memory_mib),
    "file MiB": lambda row, other: mebibytes(row.file_mib),
}
RATE: dict[str, Cell] = {
    "a second": lambda row, other: f"{1000 * row.timing.images / row.timing.median_ms:.1f}"
}
RATIO: dict[str, Cell] = {"x host": times_as_fast}
MODEL: dict[str, Cell] = {"model": lambda row, other: row.model}


@dataclass(frozen=True)
class View:
    """One table.

    Attributes:
        title: what it compares.
        columns: its headings, and what stands below.
        ratio: what the column of the ratio is named after, in words.
        pairs: whether a row holds what it is compared with, too, which then has none of its own.
        fastest_first: whether rows of a runtime stand in order of their time.
    """

    title: str
    columns: Mapping[str, Cell]
    ratio: str
    pairs: bool = False
    fastest_first: bool = False


VIEWS = {
    "size": View(
        "at equal size",
        {**PLACE, **MODEL, **FORM, **TIMES, **RATE, **RATIO, **COSTS},
        "x host: how often as fast as the host in the same runtime, timm's where timm has it",
    ),
    "accuracy": View(
        "at equal published accuracy",
        {
            **PLACE,
            **MODEL,
            "top-1": lambda row, other: percent(row.top1),
            **TIMES,
            "plain host of": of_host(lambda row: row.model.removesuffix(f", {HOST}")),
            "its top-1": of_host(lambda row: percent(row.top1)),
            "difference": difference,
            "its ms": of_host(lambda row: milliseconds(row.timing.median_ms)),
            "its quartiles ms": of_host(lambda row: span(row.timing.quartiles_ms)),
            **RATIO,
            **COSTS,
            "its load + call MiB": of_host(lambda row: mebibytes(row.timing.memory_mib)),
            "its file MiB": of_host(lambda row: mebibytes(row.file_mib)),
        },
        "plain host of the family whose published top-1 is nearest; "
        "x host: how often as fast as that host in the same runtime",
        pairs=True,
    ),
    "forms": View(
        "forms of slide attention",
        {**PLACE, **MODEL, **TIMES, **RATE, "x matmul": times_as_fast, **COSTS},
        "x matmul: how often as fast as that form in the same runtime",
        fastest_first=True,
    ),
}


def place(row: Deployed) -> tuple[str, str, int]:
    """Where and how a row ran."""
    return row.runtime, row.precision, row.threads


def deployment_table(deployment: Deployment) -> list[list[str]]:
    """Headings, then one line a model and place, place by place."""
    view = VIEWS[deployment.view]
    several = len({row.precision for row in deployment.rows}) > 1
    columns = {name: cell for name, cell in view.columns.items() if several or name != "precision"}
    found = {(*place(row), row.model): row for row in deployment.rows}
    lines = [list(columns)]
    for row in ordered(deployment, view):
        if view.pairs and row.model == row.beside:
            continue
        other = found.get((*place(row), row.beside))
        lines.append([cell(row, other) for cell in columns.values()])
    return lines


def ordered(deployment: Deployment, view: View) -> list[Deployed]:
    """Rows of a runtime together, in the order in which the first of each was measured."""
    runtimes = list(dict.fromkeys(row.runtime for row in deployment.rows))
    precisions = list(dict.fromkeys(row.precision for row in deployment.rows))

    def key(row: Deployed) -> tuple[int, int, int, float]:
        time = row.timing.median_ms if view.fastest_first else 0.0
        return runtimes.index(row.runtime), precisions.index(row.precision), row.threads, time

    return sorted(deployment.rows, key=key)


def conclusion(deployment: Deployment, facts: Mapping[str, Any]) -> str:
    """The conditions in a sentence, and what the columns mean."""
    view = VIEWS[deployment.view]
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return (
        f"{view.title}: {headline(facts, deployment.machine)}; {packages}; {view.ratio}; "
        "load + call: the peak of opening the file, in PyTorch of copying the weights, and of one call, "
        "beyond what the process had before"
    )


def deployment_markdown(deployment: Deployment, facts: Mapping[str, Any]) -> str:
    """A table for a page, its conditions below."""
    table = piped(deployment_table(deployment), WORDS)
    return "\n".join([*table, "", conclusion(deployment, facts), *deployment.notes])


def deployment_text(deployment: Deployment, facts: Mapping[str, Any]) -> str:
    """An aligned table for a terminal, its conditions above."""
    table = aligned(deployment_table(deployment), WORDS)
    return "\n".join([conclusion(deployment, facts), "", *table, *deployment.notes])


def deployment_to_dict(deployment: Deployment, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions and figures as plain values."""
    return {"kind": KIND, "conditions": dict(facts), **asdict(deployment)}


def deployment_from_dict(figures: Mapping[str, Any]) -> tuple[Deployment, dict[str, Any]]:
    """Deployment and conditions of what `deployment_to_dict` made."""
    rows = [Deployed(**{**row, "timing": measurement_from_dict(row["timing"])}) for row in figures["rows"]]
    deployment = Deployment(figures["view"], rows, Machine(**figures["machine"]), list(figures["notes"]))
    return deployment, dict(figures["conditions"])
