# SPDX-License-Identifier: Apache-2.0
"""Time and memory of candidates, measured in turn in one process."""

from __future__ import annotations

import ctypes
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from slideformer.bench.candidate import Candidate, Setting, Step
from slideformer.bench.device import device_ms
from slideformer.bench.load import Load, moment, other_cores, usable_cores
from slideformer.bench.machine import COPY, GEMM, Machine, probes
from slideformer.bench.problem import Sides, sides
from slideformer.errors import UserError

# A visit to a candidate is one call to bring its data near, then calls for this long, and their mean.
VISIT_MS, MOST_CALLS = 25.0, 50
# Of a longer call, such as that for a folder of images, the first is a small part and is not repeated.
REHEARSED_MS = 10_000.0
# Moved by a copy where no candidate says how much it has to move.
MEGABYTES = 64.0
RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESET_PEAK = "5"
# glibc's mallopt(3). Blocks above the threshold go back to the system when they are freed: small while memory
# is measured, else what glibc itself arrives at in a process that frees large blocks.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
MEASURING, USUAL = 2**16, 2**25
# Makes the candidates of a size, and notes on those left out.
Build = Callable[[], tuple[list[Candidate], list[str]]]


@dataclass(frozen=True)
class Measurement:
    """One candidate at one size.

    Attributes:
        name: of the candidate.
        median_ms: median time of a step over the rounds, in milliseconds.
        quartiles_ms: first and third quartile.
        memory_mib: peak memory beyond arguments and results, in MiB; None where it cannot be measured.
        gflop: useful floating-point operations of a step, in 10^9.
        megabytes: that a step has to move at least, in 10^6; None where it is unknown.
        images: images, or maps, in a step.
        error: largest difference from the reference, relative to its largest number; None without one.
        process_mib: memory of the process at the step's peak, in MiB, with all candidates in it; None where
            it cannot be measured.
        device_ms: mean time that a GPU itself works on a step, in milliseconds, without what Python takes to
            start it; None on a CPU.
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
    device_ms: float | None = None

    @property
    def images_a_second(self) -> float:
        """Images, or maps, that the median time makes a second."""
        return 1000 * self.images / self.median_ms


@dataclass(frozen=True)
class Group:
    """Measurements at one size, made in the same rounds.

    Attributes:
        size: side of the square map or image, or each axis of a map.
        rows: one a candidate; the others are compared with the first.
        machine: its rates in these rounds.
        notes: on candidates that were left out.
    """

    size: Sides
    rows: list[Measurement]
    machine: Machine
    notes: list[str]

    @property
    def positions(self) -> int:
        """Positions of the map."""
        return math.prod(sides(self.size))


@dataclass(frozen=True)
class Groups:
    """Measurements at several sizes, of several models, or a single group."""

    groups: list[Group]

    @property
    def machines(self) -> list[Machine]:
        """The machine during each group."""
        return [group.machine for group in self.groups]


def measure_sizes(builds: Iterable[tuple[Sides, Build]], setting: Setting) -> Groups:
    """Measure one group a size, whose candidates are made when it is its turn.

    Raises:
        UserError: no candidate is left.
    """
    groups = []
    for size, build in builds:
        candidates, notes = build()
        if not candidates:
            raise UserError(f"no candidate is left at size {size}; {'; '.join(notes) or 'widen `only`'}")
        groups.append(measure(candidates, setting, size=size, notes=notes))
    return Groups(groups)


def measure(
    candidates: Sequence[Candidate], setting: Setting, *, size: Sides, notes: Sequence[str] = ()
) -> Group:
    """Time all candidates in turn, every other round in reverse order, then take their peak memory."""
    bounds = probes(setting, next((c.megabytes for c in candidates if c.megabytes), MEGABYTES))
    runs: dict[str, Callable[[], object]] = {c.name: c.step for c in candidates}
    runs |= {name: run for name, (run, _) in bounds.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    start = moment()
    for number in range(setting.rounds):
        for name in runs if number % 2 == 0 else reversed(runs):
            setting.progress(f"{size}: round {number + 1} of {setting.rounds}, {name}")
            times[name].append(visit(runs[name], setting.device))
    others = other_cores(start, moment())
    rates = {name: 1000 * work / statistics.median(times[name]) for name, (_, work) in bounds.items()}
    rows = []
    for c in candidates:
        setting.progress(f"{size}: memory of {c.name}")
        rows.append(measurement(c, times[c.name], setting.device))
    # The steps of a GPU are started by one thread.
    threads = torch.get_num_threads() if torch.device(setting.device).type == "cpu" else 1
    load = Load(others, len(usable_cores()), threads, scatter(times.values()))
    machine = Machine(gemm_gflops=rates[GEMM], copy_gbs=rates[COPY], load=load)
    return Group(size, rows, machine, list(notes))


def measurement(candidate: Candidate, times: list[float], device: str) -> Measurement:
    """A candidate's times in milliseconds with its peak memory, which is measured now."""
    return Measurement(
        name=candidate.name,
        median_ms=statistics.median(times),
        quartiles_ms=quartiles(times),
        memory_mib=peak_mib(candidate.step if candidate.load is None else candidate.load, device),
        gflop=candidate.gflop,
        megabytes=candidate.megabytes,
        images=candidate.images,
        error=candidate.error,
        process_mib=process_peak_mib(device),
        device_ms=device_ms(candidate.step, device),
    )


def visit(run: Callable[[], object], device: str) -> float:
    """Mean milliseconds of a call."""
    first = timed(run, 1, device)
    if first > REHEARSED_MS:
        return first
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
    """Wait until a GPU has nothing left to do."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def quartiles(values: list[float]) -> tuple[float, float]:
    """First and third quartile."""
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def scatter(times: Iterable[list[float]]) -> float:
    """Distance of the quartiles over the median of each candidate's times; of all candidates, the median."""
    spreads = []
    for values in times:
        first, third = quartiles(values)
        spreads.append((third - first) / statistics.median(values))
    return statistics.median(spreads)


def peak_mib(step: Step, device: str) -> float | None:
    """Peak memory of a step in MiB, scratch memory of every library included.

    Memory that was in use before and the results that the step returns are not counted. On a GPU it is
    PyTorch's allocator that counts; on a CPU the pages of the process do, where the system reports their
    peak (Linux), else None. Blocks that the allocator had left and uses again may count a second time, so it
    is an upper bound. The step must have run before: what libraries keep for later is not counted.
    """
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        results = step()
        peak = torch.cuda.max_memory_allocated() - before
    else:
        if not return_pages():
            return None
        before = pages("VmRSS")
        results = step()
        peak = pages("VmHWM") - before
        allocate(USUAL)
    kept = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in results}
    return (peak - sum(kept.values())) / 2**20


def process_peak_mib(device: str) -> float | None:
    """The largest memory of the process since `peak_mib` started its last step, in MiB.

    On a GPU all that PyTorch's allocator held there; None where the system does not report it.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return pages("VmHWM") / 2**20 if RESET.exists() else None


def return_pages() -> bool:
    """Return free pages to the system and restart the count of the peak; False where that is impossible."""
    try:
        allocate(MEASURING)
        ctypes.CDLL(None).malloc_trim(0)
        RESET.write_text(RESET_PEAK)
    except (OSError, AttributeError):
        return False
    return True


def allocate(threshold: int) -> None:
    """Set the size from which the allocator takes blocks directly from the system."""
    library = ctypes.CDLL(None)
    library.mallopt(MMAP_THRESHOLD, threshold)
    library.mallopt(TRIM_THRESHOLD, 2 * threshold)


def pages(field: str, file: Path = STATUS) -> int:
    """Bytes that Linux reports of this process, or in another file of its own."""
    lines = file.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024
