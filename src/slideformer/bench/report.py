# SPDX-License-Identifier: Apache-2.0
"""Measurements as a table and as JSON, each with the conditions they hold under."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import torch

from slideformer.bench.candidate import Setting
from slideformer.bench.machine import Machine, commit, processor
from slideformer.bench.measurement import Group, Measurement
from slideformer.version import __version__

WORK = {"forward": "forward", "backward": "forward + backward", "step": "training step"}


def conditions(subject: str, setting: Setting, *, rounds: int, command: str) -> dict[str, Any]:
    """Machine, versions and the command; ``subject`` says in words what was measured."""
    return {
        "subject": subject,
        "work": WORK[setting.work],
        "dtype": str(setting.dtype).removeprefix("torch."),
        "compiled": setting.compiled,
        "processor": processor(setting.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "slideformer": __version__,
        "commit": commit(),
        "date": date.today().isoformat(),
        "rounds": rounds,
        "command": command,
    }


def headline(facts: Mapping[str, Any], machine: Machine) -> str:
    """The conditions in a sentence."""
    return (
        f"{facts['work']}, {facts['subject']}, {facts['dtype']}{', compiled' if facts['compiled'] else ''}; "
        f"{facts['processor']}, {facts['threads']} threads, PyTorch {facts['torch']}, "
        f"commit {facts['commit'] or 'unknown'}, {facts['date']}; "
        f"medians of {facts['rounds']} alternating rounds, in which a product of matrices (GEMM) ran at "
        f"{machine.gemm_gflops:.0f} GFLOP/s and a copy at {machine.copy_gbs:.1f} GB/s; `{facts['command']}`"
    )


def rate(part: float, whole: float) -> str:
    """A share in percent."""
    return f"{100 * part / whole:.0f} %"


def milliseconds(value: float) -> str:
    """A time, with digits enough for short ones."""
    return f"{value:.{1 if value >= 1 else 3}f}"


def mebibytes(value: float | None) -> str:
    """Memory, or a dash where it could not be measured."""
    return "-" if value is None else f"{max(0.0, value):.1f}"


def span(values: Sequence[float]) -> str:
    """Quartiles of a time in milliseconds."""
    return "-".join(f"{value:.1f}" for value in values)


Cell = Callable[[Measurement, Group], str]
MOVED: dict[str, Cell] = {
    "GB/s": lambda row, group: f"{(row.megabytes or 0) / row.median_ms:.1f}",
    "of copy": lambda row, group: rate((row.megabytes or 0) / row.median_ms, group.machine.copy_gbs),
}
COLUMNS: dict[str, Cell] = {
    "candidate": lambda row, group: row.name,
    "size": lambda row, group: str(group.size),
    "median ms": lambda row, group: milliseconds(row.median_ms),
    "quartiles ms": lambda row, group: span(row.quartiles_ms),
    "x first": lambda row, group: f"{base(group).median_ms / row.median_ms:.2f}",
    "ns a position": lambda row, group: f"{1e6 * row.median_ms / row.images / group.size**2:.1f}",
    "a second": lambda row, group: f"{1000 * row.images / row.median_ms:.1f}",
    "GFLOP/s": lambda row, group: f"{1000 * row.gflop / row.median_ms:.0f}",
    "of GEMM": lambda row, group: rate(1000 * row.gflop / row.median_ms, group.machine.gemm_gflops),
    **MOVED,
    "extra MiB": lambda row, group: mebibytes(row.memory_mib),
}


def base(group: Group) -> Measurement:
    """What the others are compared with: the first."""
    return group.rows[0]


def columns(groups: Sequence[Group]) -> dict[str, Cell]:
    """Those that say something about these groups."""
    left_out = set() if any(row.megabytes for row in groups[0].rows) else set(MOVED)
    left_out |= {"size", "ns a position"} if len(groups) == 1 else {"quartiles ms", "a second"}
    return {name: cell for name, cell in COLUMNS.items() if name not in left_out}


def table(groups: Sequence[Group]) -> list[list[str]]:
    """Headings, then one line a candidate and size, the fastest of a size first."""
    cells = columns(groups)
    lines = [[name.replace("x first", f"x {base(groups[0]).name}") for name in cells]]
    for group in groups:
        for row in sorted(group.rows, key=lambda row: row.median_ms):
            lines.append([cell(row, group) for cell in cells.values()])
    return lines


def notes(groups: Sequence[Group]) -> list[str]:
    """What was left out."""
    return [f"{group.size}: {note}" for group in groups for note in group.notes]


def markdown(groups: Sequence[Group], facts: Mapping[str, Any]) -> str:
    """A table for a page, its conditions below."""
    conditions = headline(facts, groups[-1].machine)
    return "\n".join([*piped(table(groups)), "", conditions, *notes(groups)])


def text(groups: Sequence[Group], facts: Mapping[str, Any]) -> str:
    """An aligned table for a terminal, its conditions above."""
    return "\n".join([headline(facts, groups[-1].machine), "", *aligned(table(groups)), *notes(groups)])


def piped(lines: Sequence[Sequence[str]], words: Sequence[str] = ()) -> list[str]:
    """Headings and rows as a table in Markdown.

    Args:
        lines: headings, then rows.
        words: headings of columns that stand to the left, as the first one does.
    """
    head, *rows = (f"| {' | '.join(line)} |" for line in lines)
    rule = "".join("|---" if side == "left" else "|---:" for side in sides(lines[0], words))
    return [head, f"{rule}|", *rows]


def aligned(lines: Sequence[Sequence[str]], words: Sequence[str] = ()) -> list[str]:
    """Headings and rows as a table for a terminal; arguments as of `piped`."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    place = {"left": str.ljust, "right": str.rjust}
    places = [place[side] for side in sides(lines[0], words)]
    return [
        "  ".join(put(word, width) for put, word, width in zip(places, line, widths, strict=True)).rstrip()
        for line in lines
    ]


def sides(head: Sequence[str], words: Sequence[str]) -> list[str]:
    """Where each column stands: words to the left, numbers to the right."""
    return ["left" if i == 0 or name in words else "right" for i, name in enumerate(head)]


def to_dict(groups: Sequence[Group], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions and figures as plain values."""
    return {"conditions": dict(facts), "groups": [asdict(group) for group in groups]}


def from_dict(figures: Mapping[str, Any]) -> tuple[list[Group], dict[str, Any]]:
    """Groups and conditions of what `to_dict` made."""
    groups = [
        Group(
            size=group["size"],
            rows=[measurement_from_dict(row) for row in group["rows"]],
            machine=Machine(**group["machine"]),
            notes=group["notes"],
        )
        for group in figures["groups"]
    ]
    return groups, dict(figures["conditions"])


def measurement_from_dict(figures: Mapping[str, Any]) -> Measurement:
    """A measurement of its plain values."""
    return Measurement(**{**figures, "quartiles_ms": tuple(figures["quartiles_ms"])})
