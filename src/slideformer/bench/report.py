# SPDX-License-Identifier: Apache-2.0
"""Reports of measurements: each kind's table, and its plain values for JSON and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from types import NoneType
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from slideformer.bench.accuracy import Accuracy, accuracy_table
from slideformer.bench.comparison import Comparison, comparison_table
from slideformer.bench.deployed import Deployment, deployment_table
from slideformer.bench.detector import detector_table
from slideformer.bench.load import worst
from slideformer.bench.machine import Facts, Machine, headline
from slideformer.bench.measurement import Group, Groups, Measurement
from slideformer.bench.model import hosts_table
from slideformer.bench.table import Table, mebibytes, milliseconds, percent, span


@dataclass(frozen=True)
class Families:
    """Largest difference between model and exported file, as text, by family and runtime."""

    rows: dict[str, dict[str, str]]

    @property
    def machines(self) -> list[Machine]:
        """None: nothing is timed."""
        return []


Result = TypeVar("Result", Groups, Comparison, Deployment, Families, Accuracy)


@dataclass(frozen=True)
class Report:
    """A measurement to be printed and kept.

    Attributes:
        table: to print.
        figures: kind, conditions and all figures as plain values, as ``--json`` writes them; under
            ``unreliable`` the reason why they are, where they are.
    """

    table: Table
    figures: dict[str, Any]


# What figures have besides the fields of their dataclass.
DESCRIPTION = ("kind", "unreliable", "conditions")


@dataclass(frozen=True)
class Kind(Generic[Result]):
    """One kind of measurement.

    Attributes:
        name: under ``kind`` in JSON, where the kind without a name leaves it out.
        result: the dataclass of its figures.
        table: shows figures with their conditions.
    """

    name: str
    result: type[Result]
    table: Callable[[Result, Facts], Table]

    def report(self, result: Result, facts: Facts) -> Report:
        """A report of figures and their conditions, which says where they are unreliable."""
        about = {"kind": self.name} if self.name else {}
        table: Table = self.table(result, facts)
        load = worst(machine.load for machine in result.machines)
        doubt = None if load is None else load.doubt
        if doubt is not None:
            table = replace(table, notes=[*table.notes, doubt])
            about["unreliable"] = doubt
        return Report(table, {**about, "conditions": dict(facts), **asdict(result)})

    def restore(self, figures: Mapping[str, Any]) -> Report:
        """The report that these plain values are of."""
        values = {name: x for name, x in figures.items() if name not in DESCRIPTION}
        result: Result = rebuild(self.result, values)
        return self.report(result, figures["conditions"])


def rebuild(hint: Any, value: Any) -> Any:
    """Build what has this type hint, a dataclass for instance, from its plain values."""
    if value is not None and NoneType in get_args(hint):
        (hint,) = (one for one in get_args(hint) if one is not NoneType)
    if isinstance(hint, type) and is_dataclass(hint):
        hints = get_type_hints(hint)
        return hint(**{name: rebuild(hints[name], x) for name, x in value.items()})
    if get_origin(hint) is list:
        return [rebuild(get_args(hint)[0], x) for x in value]
    return tuple(value) if get_origin(hint) is tuple else value


Cell = Callable[[Measurement, Group], str]
MOVED: dict[str, Cell] = {
    "GB/s": lambda row, group: f"{(row.megabytes or 0) / row.median_ms:.1f}",
    "of copy": lambda row, group: percent((row.megabytes or 0) / row.median_ms, group.machine.copy_gbs),
}
DEVICE = "device ms"
COLUMNS: dict[str, Cell] = {
    "candidate": lambda row, group: row.name,
    "size": lambda row, group: str(group.size),
    "median ms": lambda row, group: milliseconds(row.median_ms),
    DEVICE: lambda row, group: "-" if row.device_ms is None else milliseconds(row.device_ms),
    "quartiles ms": lambda row, group: span(row.quartiles_ms),
    "x first": lambda row, group: f"{group.rows[0].median_ms / row.median_ms:.2f}",
    "ns a position": lambda row, group: f"{1e6 * row.median_ms / row.images / group.positions:.1f}",
    "a second": lambda row, group: f"{row.images_a_second:.1f}",
    "GFLOP/s": lambda row, group: f"{1000 * row.gflop / row.median_ms:.0f}",
    "of GEMM": lambda row, group: percent(1000 * row.gflop / row.median_ms, group.machine.gemm_gflops),
    **MOVED,
    "extra MiB": lambda row, group: mebibytes(row.memory_mib),
}


def sizes_table(result: Groups, facts: Facts) -> Table:
    """One line a candidate and size, the fastest of a size first."""
    groups = result.groups
    left_out = set() if any(row.megabytes for row in groups[0].rows) else set(MOVED)
    # On a CPU the two times are one.
    left_out |= set() if any(row.device_ms for group in groups for row in group.rows) else {DEVICE}
    left_out |= {"size", "ns a position"} if len(groups) == 1 else {"quartiles ms", "a second"}
    columns = {name: cell for name, cell in COLUMNS.items() if name not in left_out}
    headings = [name.replace("x first", f"x {groups[0].rows[0].name}") for name in columns]
    rows = [
        [cell(row, group) for cell in columns.values()]
        for group in groups
        for row in sorted(group.rows, key=lambda row: row.median_ms)
    ]
    notes = [f"{group.size}: {note}" for group in groups for note in group.notes]
    return Table(headings, rows, headline(facts, groups[-1].machine), notes)


def families_table(result: Families, facts: Facts) -> Table:
    """One line a family of models, relative to its largest logit."""
    runtimes = list(next(iter(result.rows.values())))
    rows = [[family, *(cells[name] for name in runtimes)] for family, cells in result.rows.items()]
    conditions = "{processor}, PyTorch {torch}, commit {commit}, {date}; `{command}`".format(**facts)
    return Table(["family", *runtimes], rows, conditions)


SIZES = Kind("", Groups, sizes_table)
HOSTS = Kind("hosts", Groups, hosts_table)
DETECTOR = Kind("detector", Groups, detector_table)
COMPARISON = Kind("compare", Comparison, comparison_table)
DEPLOYMENT = Kind("deploy", Deployment, deployment_table)
FAMILIES = Kind("families", Families, families_table)
ACCURACY = Kind("accuracy", Accuracy, accuracy_table)
KINDS = {kind.name: kind for kind in (SIZES, HOSTS, DETECTOR, COMPARISON, DEPLOYMENT, FAMILIES, ACCURACY)}


def restore(figures: Mapping[str, Any]) -> Report:
    """The report of any kind that these plain values are of, as ``--json`` wrote them."""
    return KINDS[figures.get("kind", "")].restore(figures)
