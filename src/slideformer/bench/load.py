# SPDX-License-Identifier: Apache-2.0
"""Other work on the machine while something is measured, and whether the figures can be trusted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")
# Columns of a processor in it that count as busy: all but idle (3) and waiting for a disk (4). "Steal" (7)
# is what other virtual machines took; time of guests (from 8) is counted as a user's already.
BUSY_COLUMNS = (0, 1, 2, 5, 6, 7)
# It counts in steps of 10 ms; of a shorter time it says too little.
SHORTEST_SECONDS = 0.5
# Figures are unreliable from here on: cores that our threads had to share with other work, and the distance
# of the quartiles over the median. One late thread delays all others, so that a fifth of a core is felt.
MOST_SHARED, MOST_SCATTER = 0.2, 0.25


@dataclass(frozen=True)
class Load:
    """Other work while candidates were measured, and how far their times scatter.

    Attributes:
        other_cores: cores that other processes kept busy on average; None where the system does not report
            them, or the time was too short to say.
        cores: that this process may use.
        threads: that a step runs on.
        scatter: distance of the quartiles of a candidate's times, over their median; of all candidates, the
            median.
    """

    other_cores: float | None
    cores: int
    threads: int
    scatter: float

    @property
    def shared_cores(self) -> float:
        """Cores that other work takes from the threads of a step; none where it is not known."""
        return max(0.0, (self.other_cores or 0.0) + min(self.threads, self.cores) - self.cores)

    @property
    def doubt(self) -> str | None:
        """The reason why figures are unreliable, with what helps, or None."""
        if self.shared_cores > MOST_SHARED:
            helps = ", or set OMP_NUM_THREADS=1 or GOMP_SPINCOUNT=0" if self.threads > 1 else ""
            return (
                f"other work is running ({self.other_cores:.1f} of {self.cores} cores): figures unreliable; "
                f"wait for it to end{helps}"
            )
        if self.threads > self.cores:
            return (
                f"a step runs on {self.threads} threads, more than the {self.cores} cores of this process: "
                f"figures unreliable; give at most {self.cores} threads"
            )
        if self.scatter > MOST_SCATTER:
            return (
                f"times scatter from round to round (quartiles {100 * self.scatter:.0f} % of the median "
                "apart): figures unreliable; measure again, with more rounds"
            )
        return None


@dataclass(frozen=True)
class Moment:
    """Seconds that have passed, and seconds of processors: of all work, and of this process.

    Processes that it started and that have ended count as its own, such as those that read images.
    """

    passed: float
    busy: float
    own: float


def moment() -> Moment | None:
    """The present moment; None on a system that does not report what its processors do."""
    try:
        stat = STAT.read_text(encoding="ascii")
    except OSError:
        return None
    busy = busy_seconds(stat, usable_cores(), os.sysconf("SC_CLK_TCK"))
    return Moment(time.monotonic(), busy, sum(os.times()[:4]))


def usable_cores() -> set[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def busy_seconds(stat: str, cores: Iterable[int], ticks_a_second: int) -> float:
    """Seconds for which some cores were busy since the system started, as its ``/proc/stat`` says."""
    names = {f"cpu{core}" for core in cores}
    lines = [line.split() for line in stat.splitlines()]
    counts = [words[1:] for words in lines if words and words[0] in names]
    return sum(int(words[i]) for words in counts for i in BUSY_COLUMNS if i < len(words)) / ticks_a_second


def other_cores(before: Moment | None, after: Moment | None) -> float | None:
    """Cores that other processes kept busy between two moments."""
    if before is None or after is None or after.passed - before.passed < SHORTEST_SECONDS:
        return None
    others = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, others / (after.passed - before.passed))


def worst(loads: Iterable[Load | None]) -> Load | None:
    """The load that is furthest beyond what figures bear; None where none is known."""
    known = [load for load in loads if load is not None]

    def beyond(load: Load) -> float:
        too_many = load.threads / load.cores if load.threads > load.cores else 0.0
        return max(load.shared_cores / MOST_SHARED, load.scatter / MOST_SCATTER, too_many)

    return max(known, key=beyond, default=None)
