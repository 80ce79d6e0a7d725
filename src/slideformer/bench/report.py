# SPDX-License-Identifier: Apache-2.0
"""Measurements as a table and as JSON, each with the conditions they hold under."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import torch

from slideformer.bench.cases import AUTHORS, Problem
from slideformer.bench.measurement import Machine, Measurement
from slideformer.version import __version__


def conditions(
    problem: Problem, machine: Machine, *, backward: bool, rounds: int, command: str
) -> dict[str, Any]:
    """Machine, versions, sizes and the command."""
    return {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "slideformer": __version__,
        "commit": commit(),
        "date": date.today().isoformat(),
        "dtype": "float32",
        "work": "forward + backward" if backward else "forward",
        "rounds": rounds,
        **asdict(problem),
        **asdict(machine),
        # Useful ones; the backward pass has twice as many, or two and a half deformed.
        "gflop": 2 * problem.multiply_adds * (1 + backward * (2.5 if problem.deformed else 2)) / 1e9,
        "command": command,
    }


def processor() -> str:
    """The processor's name, with its vector extension as PyTorch uses it."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8").splitlines()
        found = (line for line in lines if line.startswith("model name"))
        name = next(found, f":{name}").split(":", 1)[1].strip()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def commit() -> str | None:
    """The commit of the source this runs from; None outside a checkout."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def headline(facts: dict[str, Any]) -> str:
    """The conditions in a sentence."""
    words = "deformed" if facts["deformed"] else f"plain, border {facts['border']},"
    return (
        f"{facts['work']}, {words} K = {facts['kernel_size']}, batch {facts['batch']}, "
        f"{facts['size']} x {facts['size']}, {facts['heads']} heads of {facts['head_dim']}, "
        f"{facts['dtype']}; "
        f"{facts['processor']}, {facts['threads']} threads, PyTorch {facts['torch']}, "
        f"commit {facts['commit'] or 'unknown'}, {facts['date']}; "
        f"medians of {facts['rounds']} alternating rounds, in which a product of matrices (GEMM) ran at "
        f"{facts['gemm_gflops']:.0f} GFLOP/s and a copy of query, key, value and output took "
        f"{facts['copy_ms']:.2f} ms; `{facts['command']}`"
    )


HEADINGS = ("candidate", "median ms", "quartiles ms", "x authors' form", "GFLOP/s", "of GEMM", "extra MiB")


def cells(rows: Sequence[Measurement], facts: dict[str, Any]) -> list[tuple[str, ...]]:
    """One tuple of texts a candidate, the fastest first."""
    base = next(row.median_ms for row in rows if row.name == AUTHORS)
    return [
        (
            row.name,
            f"{row.median_ms:.1f}",
            f"{row.quartiles_ms[0]:.1f}-{row.quartiles_ms[1]:.1f}",
            f"{base / row.median_ms:.1f}",
            f"{1000 * facts['gflop'] / row.median_ms:.1f}",
            f"{100_000 * facts['gflop'] / row.median_ms / facts['gemm_gflops']:.0f} %",
            f"{row.memory_mib:.1f}",
        )
        for row in sorted(rows, key=lambda row: row.median_ms)
    ]


def markdown(rows: Sequence[Measurement], facts: dict[str, Any]) -> str:
    """A table for a page, its conditions below."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"|---{'|---:' * (len(HEADINGS) - 1)}|"]
    lines += [f"| {' | '.join(line)} |" for line in cells(rows, facts)]
    return "\n".join([*lines, "", headline(facts)])


def text(rows: Sequence[Measurement], facts: dict[str, Any]) -> str:
    """An aligned table for a terminal, its conditions above."""
    table = [HEADINGS, *cells(rows, facts)]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEADINGS))]
    aligned = [
        "  ".join(
            [line[0].ljust(widths[0]), *(word.rjust(w) for word, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in table
    ]
    return "\n".join([headline(facts), "", *aligned])


def to_dict(rows: Sequence[Measurement], facts: dict[str, Any]) -> dict[str, Any]:
    """Conditions and figures as plain values."""
    return {"conditions": facts, "measurements": [asdict(row) for row in rows]}
