# SPDX-License-Identifier: Apache-2.0
"""Accuracies of trainings compared: means over seeds, paired differences and how sure they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan, nan, sqrt
from statistics import mean, stdev

from slideformer.bench.machine import Facts, Machine
from slideformer.bench.measurement import Group
from slideformer.bench.table import Table

# Of the intervals; the share that holds the true value.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Outcome:
    """The result of one training.

    Attributes:
        arm: what was trained.
        epochs: how often every image was seen.
        seed: of first weights, order and augmentation; trainings of one seed are compared in pairs.
        parameters: of the model.
        top1: share of the images of the study's split whose class is right, after the last epoch.
        commit: of the source that trained it; None outside a checkout.
        digest: the same for the same training on any machine.
        torch: the version of PyTorch that trained it.
        processor: on which.
    """

    arm: str
    epochs: int
    seed: int
    parameters: int
    top1: float
    commit: str | None = None
    digest: str | None = None
    torch: str | None = None
    processor: str | None = None


@dataclass(frozen=True)
class Accuracy:
    """The figures of a study.

    Attributes:
        split: on which top-1 is measured, ``test`` or ``hold-out``.
        images: of an epoch.
        outcomes: of all trainings.
        first: the arm that the others are compared with.
        target: the arm whose accuracy the others are to reach, and the gap to which they close in part; None
            where there is none.
        steps: an update of each arm, alternating in one process; None if not measured.
    """

    split: str
    images: int
    outcomes: list[Outcome]
    first: str
    target: str | None
    steps: Group | None = None

    @property
    def machines(self) -> list[Machine]:
        """That of the steps, where they are timed."""
        return [] if self.steps is None else [self.steps.machine]

    def epoch_seconds(self, arm: str) -> float:
        """Seconds of an epoch of an arm, by the time of a step; not a number where that is not measured."""
        found = [row for row in (self.steps.rows if self.steps else []) if row.name == arm]
        return found[0].median_ms / 1000 * self.images / found[0].images if found else nan


@dataclass(frozen=True)
class Row:
    """Trainings of one arm and length.

    Attributes:
        arm: what was trained.
        epochs: how long.
        parameters: of the model.
        top1: by seed.
    """

    arm: str
    epochs: int
    parameters: int
    top1: dict[int, float]

    @property
    def mean(self) -> float:
        """Mean top-1, in percent."""
        return 100 * mean(self.top1.values())

    @property
    def error(self) -> float:
        """Standard error of the mean, in points."""
        return standard_error([100 * x for x in self.top1.values()])


def rows_of(outcomes: Sequence[Outcome]) -> list[Row]:
    """A row an arm and length, in the order of the first outcome of each."""
    rows: dict[tuple[str, int], Row] = {}
    for x in outcomes:
        row = rows.setdefault((x.arm, x.epochs), Row(x.arm, x.epochs, x.parameters, {}))
        row.top1[x.seed] = x.top1
    return list(rows.values())


def standard_error(values: Sequence[float]) -> float:
    """Standard error of a mean; not a number of a single value."""
    return stdev(values) / sqrt(len(values)) if len(values) > 1 else nan


def difference(row: Row, other: Row, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Mean of the paired differences of top-1, in points, and half of its interval (Student's t).

    Args:
        row: from which the other is subtracted, seed by seed.
        other: of which the seeds in both count.
        confidence: the share of intervals that hold the true value.
    """
    pairs = [100 * (row.top1[seed] - other.top1[seed]) for seed in row.top1 if seed in other.top1]
    return mean(pairs), half_interval(pairs, confidence)


def half_interval(values: Sequence[float], confidence: float) -> float:
    """Half of the interval of a mean; not a number of a single value."""
    from scipy.stats import t

    if len(values) < 2:
        return nan
    return float(t.ppf((1 + confidence) / 2, len(values) - 1)) * standard_error(values)


def closed(row: Row, first: Row, target: Row) -> float:
    """The part of the gap between two accuracies that a row closes; not a number where there is no gap."""
    gap, half = difference(target, first)
    if gap <= 0 or gap <= half:  # a half that is not a number is not known to be larger
        return nan
    return (row.mean - first.mean) / (target.mean - first.mean)


# The cells of a line: the row, the first arm's of the same length, the target's, and all figures.
Cell = Callable[[Row, "Row | None", "Row | None", Accuracy], str]
COLUMNS: dict[str, Cell] = {
    "arm": lambda row, first, target, all: row.arm,
    "epochs": lambda row, first, target, all: str(row.epochs),
    "parameters": lambda row, first, target, all: f"{row.parameters:,}",
    "seeds": lambda row, first, target, all: str(len(row.top1)),
    "top-1 %": lambda row, first, target, all: f"{row.mean:.2f}",
    "standard error": lambda row, first, target, all: points(row.error),
    "difference": lambda row, first, target, all: compared(row, first),
    "gap closed": lambda row, first, target, all: part_closed(row, first, target),
    "s an epoch": lambda row, first, target, all: f"{all.epoch_seconds(row.arm):.0f}",
}


def points(value: float) -> str:
    """A number of points; a dash for none."""
    return "-" if isnan(value) else f"{value:.2f}"


def part_closed(row: Row, first: Row | None, target: Row | None) -> str:
    """The part of the gap that a row closes; a dash for none."""
    if first is None or target is None or row in (first, target):
        return "-"
    part = closed(row, first, target)
    return "-" if isnan(part) else f"{100 * part:.0f} %"


def compared(row: Row, first: Row | None) -> str:
    """The difference to another row with its interval; a dash for none."""
    if first is None or first is row:
        return "-"
    middle, half = difference(row, first)
    return f"{middle:+.2f}" if isnan(half) else f"{middle:+.2f} ± {half:.2f}"


def accuracy_table(result: Accuracy, facts: Facts) -> Table:
    """One line an arm and length."""
    rows = rows_of(result.outcomes)
    left_out = set() if len({row.epochs for row in rows}) > 1 else {"epochs"}
    left_out |= set() if result.target else {"gap closed"}
    left_out |= set() if result.steps else {"s an epoch"}
    left_out |= set() if compares(result) else {"difference"}
    left_out |= {"standard error"} if all(isnan(row.error) for row in rows) else set()
    columns = {name: cell for name, cell in COLUMNS.items() if name not in left_out}
    cells = []
    for row in rows:
        first = next((x for x in rows if (x.arm, x.epochs) == (result.first, row.epochs)), None)
        target = next((x for x in rows if x.arm == result.target), None)
        cells.append([cell(row, first, target, result) for cell in columns.values()])
    return Table(list(columns), cells, sentence(result, facts), verdicts(rows, result.first))


def compares(result: Accuracy) -> bool:
    """Whether there is an arm that is compared with the first."""
    return any(x.arm != result.first for x in result.outcomes)


def verdicts(rows: Sequence[Row], name: str) -> list[str]:
    """Sentences on which arms are better or worse than one of the same length, and where that is not sure.

    The intervals of all comparisons together hold with `CONFIDENCE` (Bonferroni).

    Args:
        rows: of all arms and lengths.
        name: of the arm that the others are compared with.
    """
    firsts = {row.epochs: row for row in rows if row.arm == name}
    pairs = [(row, firsts[row.epochs]) for row in rows if row.epochs in firsts and row.arm != name]
    found: dict[str, list[str]] = {}
    for row, first in pairs:
        middle, half = difference(row, first, 1 - (1 - CONFIDENCE) / len(pairs))
        if not isnan(half):
            sure = "better" if middle > half else "worse" if middle < -half else ""
            words = f"{sure} than {name}" if sure else f"no sure difference from {name}"
            length = f" ({row.epochs} epoch{'' if row.epochs == 1 else 's'})" if len(firsts) > 1 else ""
            found.setdefault(words, []).append(f"{row.arm}{length}")
    together = f"{len(pairs)} comparisons together (Bonferroni), " if len(pairs) > 1 else ""
    return [f"{together}{words}: {'; '.join(arms)}" for words, arms in found.items()]


def sentence(result: Accuracy, facts: Facts) -> str:
    """The conditions in a sentence."""
    # A study may go on on another machine, or by another version.
    trained = {
        name: ", ".join(dict.fromkeys(getattr(x, name) or "unknown" for x in result.outcomes))
        for name in ("processor", "torch", "commit")
    }
    timed = (
        f"; time of an epoch by updates of all arms that alternate, reading included, on {facts['processor']}"
        if result.steps
        else ""
    )
    differences = (
        f"; differences to {result.first} of the same length, in points: the mean over seeds, all of them on "
        f"the same training and test images, with its {100 * CONFIDENCE:.0f} % interval (Student's t, seed "
        "by seed)"
        if compares(result)
        else ""
    )
    return (
        f"{facts['subject']}, top-1 on the {result.split} split{differences}; trained on "
        f"{trained['processor']}, one thread a training, PyTorch {trained['torch']}, commit "
        f"{trained['commit']}{timed}; {facts['date']}; `{facts['command']}`"
    )
