# SPDX-License-Identifier: Apache-2.0
"""Other work, and rounds that scatter, make figures unreliable; the report says so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from slideformer.bench import (
    SIZES,
    Candidate,
    Groups,
    Setting,
    conditions,
    load,
    measure,
    measurement,
    restore,
)
from slideformer.bench.load import Load, Moment, busy_seconds, other_cores, worst

QUIET = Load(other_cores=0.1, cores=2, threads=2, scatter=0.05)
BUSY = replace(QUIET, other_cores=1.3)

# user nice system idle iowait irq softirq steal guest guest_nice, in hundredths of a second.
STAT = """\
cpu  1110 22 330 9999 99 44 55 66 500 0
cpu0 1000 20 300 9000 90 40 50 60 400 0
cpu1 100 2 30 900 9 4 5 6 50 0
cpu10 10 0 0 99 0 0 0 0 50 0
intr 5 4 3
"""


def test_busy_is_all_but_idle_and_waiting_for_a_disk_on_the_cores_that_may_be_used() -> None:
    assert busy_seconds(STAT, {1}, 100) == pytest.approx(1.47)
    assert busy_seconds(STAT, {0, 1}, 100) == pytest.approx(14.7 + 1.47)


def test_other_work_is_what_is_busy_and_not_ours() -> None:
    before, after = Moment(10.0, busy=100.0, own=7.0), Moment(14.0, busy=108.0, own=9.8)
    assert other_cores(before, after) == pytest.approx(1.3)


def test_the_work_of_processes_that_were_started_counts_as_ours() -> None:
    if not load.STAT.exists():
        pytest.skip("needs a system that reports what its processors do")
    before = load.moment()
    subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True, timeout=60)
    after = load.moment()
    assert before is not None
    assert after is not None
    assert after.own - before.own > 0.1


def test_other_work_is_never_less_than_nothing() -> None:
    assert other_cores(Moment(0.0, 0.0, 0.0), Moment(2.0, 1.99, 2.0)) == 0.0


@pytest.mark.parametrize("after", [None, Moment(10.1, 100.2, 7.1)], ids=["not reported", "too short"])
def test_nothing_is_said_of_other_work_that_was_not_counted(after: Moment | None) -> None:
    assert other_cores(Moment(10.0, 100.0, 7.0), after) is None
    assert replace(QUIET, other_cores=None).doubt is None


def test_a_system_that_reports_no_processors_is_measured_without_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(load, "STAT", tmp_path_factory.mktemp("system") / "stat")
    assert load.moment() is None
    found = measure([], Setting(rounds=1), size=1).machine.load
    assert found is not None
    assert found.other_cores is None


def test_a_quiet_machine_leaves_no_doubt() -> None:
    assert QUIET.doubt is None


def test_other_work_is_named_with_what_helps() -> None:
    assert BUSY.doubt == (
        "other work is running (1.3 of 2 cores): figures unreliable; "
        "wait for it to end, or set OMP_NUM_THREADS=1 or GOMP_SPINCOUNT=0"
    )


def test_other_work_on_cores_that_we_leave_free_leaves_no_doubt() -> None:
    one_thread = replace(BUSY, other_cores=1.0, threads=1)
    assert one_thread.doubt is None
    assert replace(one_thread, other_cores=1.5).doubt == (
        "other work is running (1.5 of 2 cores): figures unreliable; wait for it to end"
    )


def test_scatter_alone_is_named_differently() -> None:
    for others in (0.1, None):
        assert replace(QUIET, other_cores=others, scatter=0.45).doubt == (
            "times scatter from round to round (quartiles 45 % of the median apart): "
            "figures unreliable; measure again, with more rounds"
        )


@pytest.mark.parametrize("others", [None, 0.1])
def test_more_threads_than_cores_are_named_whether_other_work_is_known_or_not(others: float | None) -> None:
    crowded = replace(QUIET, other_cores=others, threads=3)
    assert crowded.doubt == (
        "a step runs on 3 threads, more than the 2 cores of this process: figures unreliable; "
        "give at most 2 threads"
    )
    assert worst([QUIET, crowded]) == crowded
    assert replace(BUSY, threads=3).doubt == BUSY.doubt


def test_the_worst_of_several_loads_counts() -> None:
    shaky = replace(QUIET, other_cores=None, scatter=0.5)
    assert worst([QUIET, BUSY, None, shaky]) == BUSY
    assert worst([QUIET, shaky]) == shaky
    assert worst([None]) is None


def measured(monkeypatch: pytest.MonkeyPatch, *, busy: float, times: list[float]) -> Groups:
    """A measurement in ten seconds of which all processors are busy for so many, ours for 3."""
    moments = iter([Moment(0.0, 0.0, 0.0), Moment(10.0, busy, 3.0)])
    clock: Iterator[float] = iter(times * 3)
    monkeypatch.setattr(measurement, "moment", lambda: next(moments))
    monkeypatch.setattr(measurement, "usable_cores", lambda: {0, 1})
    monkeypatch.setattr(measurement.torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(measurement, "visit", lambda run, device: next(clock))
    candidate = Candidate("a", list, 1.0, None, 1, None)
    return Groups([measure([candidate], Setting(rounds=4), size=8)])


SAME, APART = [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 2.0, 2.0, 2.0] * 2
CASES = {
    "quiet": (3.5, SAME, None),
    "busy": (16.0, SAME, "other work is running (1.3 of 2 cores): figures unreliable"),
    "scatter": (3.5, APART, "times scatter from round to round"),
}


@pytest.mark.parametrize(("busy", "times", "words"), CASES.values(), ids=CASES)
def test_the_report_and_its_json_say_when_figures_are_unreliable(
    busy: float, times: list[float], words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = measured(monkeypatch, busy=busy, times=times)
    report = SIZES.report(result, conditions("a subject", Setting(), "slideformer bench"))
    assert restore(json.loads(json.dumps(report.figures))) == report
    last = report.table.text().splitlines()[-1]
    if words is None:
        assert "unreliable" not in report.figures
        assert "unreliable" not in last
    else:
        assert report.figures["unreliable"] == last
        assert last.startswith(words)
