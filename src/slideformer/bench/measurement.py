# SPDX-License-Identifier: Apache-2.0
"""Time and memory of candidates, measured in turn in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from slideformer.bench.candidate import Candidate, Setting
from slideformer.bench.machine import COPY, GEMM, Machine, probes
from slideformer.bench.memory import peak_mib, process_peak_mib

# A visit to a candidate is one call to bring its data near, then calls for this long, and their mean.
VISIT_MS, MOST_CALLS = 25.0, 50
# What a copy moves where no candidate says what it has to.
MEGABYTES = 64.0


@dataclass(frozen=True)
class Measurement:
    """One candidate at one size.

    Attributes:
        name: of the candidate.
        median_ms: median time of a step over the rounds, in milliseconds.
        quartiles_ms: first and third quartile.
        memory_mib: peak memory beyond arguments and results, in MiB; None where it cannot be measured.
        gflop: useful floating-point operations of a step, in 10^9.
        megabytes: that a step has to move at least, in 10^6; None where nobody knows.
        images: images, or maps, in a step.
        error: largest difference from the reference, relative to its largest number; None without one.
        process_mib: memory of the whole process at the step's peak, in MiB, with all candidates in it; None
            where it cannot be measured.
    """

    name: str
    median_ms: float
    quartiles_ms: tuple[float, float]
    memory_mib: float | None
    gflop: float
    megabytes: float | None
    images: int
    error: float | None
    process_mib: float | None = None


@dataclass(frozen=True)
class Group:
    """Measurements at one size, made in the same rounds.

    Attributes:
        size: side of the map or of the image.
        rows: one a candidate; the first is what the others are compared with.
        machine: what it could do meanwhile.
        notes: on candidates that were left out.
    """

    size: int
    rows: list[Measurement]
    machine: Machine
    notes: list[str]


def measure(
    candidates: Sequence[Candidate],
    setting: Setting,
    *,
    size: int,
    rounds: int,
    notes: Sequence[str] = (),
    progress: Callable[[str], None] = lambda words: None,
) -> Group:
    """Time all candidates in turn, every other round in reverse order, then take their peak memory."""
    bounds = probes(setting, next((c.megabytes for c in candidates if c.megabytes), MEGABYTES))
    runs: dict[str, Callable[[], object]] = {c.name: c.step for c in candidates}
    runs |= {name: probe.run for name, probe in bounds.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in runs if number % 2 == 0 else reversed(runs):
            progress(f"{size}: round {number + 1} of {rounds}, {name}")
            times[name].append(visit(runs[name], setting.device))
    medians = {name: statistics.median(values) for name, values in times.items()}
    machine = Machine(
        gemm_gflops=1000 * bounds[GEMM].work / medians[GEMM],
        copy_gbs=1000 * bounds[COPY].work / medians[COPY],
    )
    rows = []
    for c in candidates:
        progress(f"{size}: memory of {c.name}")
        rows.append(
            Measurement(
                name=c.name,
                median_ms=medians[c.name],
                quartiles_ms=quartiles(times[c.name]),
                memory_mib=peak_mib(c.step if c.load is None else c.load, setting.device),
                gflop=c.gflop,
                megabytes=c.megabytes,
                images=c.images,
                error=c.error,
                process_mib=process_peak_mib(setting.device),
            )
        )
    return Group(size, rows, machine, list(notes))


def visit(run: Callable[[], object], device: str) -> float:
    """Mean milliseconds of a call."""
    first = timed(run, 1, device)
    calls = max(1, min(MOST_CALLS, int(VISIT_MS / max(first, 1e-3))))
    return timed(run, calls, device)


def timed(run: Callable[[], object], calls: int, device: str) -> float:
    """Mean milliseconds of some calls."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    synchronize(device)
    return 1000 * (time.perf_counter() - start) / calls


def synchronize(device: str) -> None:
    """Wait for what a GPU still has to do."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def quartiles(values: list[float]) -> tuple[float, float]:
    """First and third quartile."""
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third
