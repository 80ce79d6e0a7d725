# SPDX-License-Identifier: Apache-2.0
"""A report of every kind is kept as JSON and shown again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from slideformer.bench import conditions, restore
from slideformer.bench.accuracy import Accuracy, Outcome
from slideformer.bench.candidate import Setting
from slideformer.bench.comparison import Comparison, Maps, Row
from slideformer.bench.deployed import VIEWS, Deployed, Deployment
from slideformer.bench.load import Load
from slideformer.bench.machine import Machine
from slideformer.bench.measurement import Group, Groups, Measurement
from slideformer.bench.report import (
    ACCURACY,
    COMPARISON,
    DEPLOYMENT,
    DETECTOR,
    FAMILIES,
    HOSTS,
    KINDS,
    SIZES,
    Families,
    Report,
)

FACTS = conditions("a subject", Setting(), "slideformer bench") | {"packages": {"a": "1"}}
MACHINE = Machine(200.0, 4.0, Load(1.3, 2, 2, 0.05))
TIMING = Measurement("a", 2.0, (1.5, 2.5), None, 1.0, 8.0, 4, 1e-6, 80.0)
GROUPS = Groups([Group(8, [TIMING, TIMING], MACHINE, ["b left out"])])
ROW = Row("slide", "a paper", 10, 20, 1.0, (0.5, 1.5), 4.0, 9, 1, "its own", ("PyTorch", "ONNX"), 5)
DEPLOYED = Deployed("ONNX", "a", "a", "matmul", "float32", 2, None, 82.3, TIMING)
TRAINED, TIMED = Outcome("a", 1, 0, 10, 0.5, "abc"), Group(8, [TIMING], MACHINE, [])
REPORTS = [
    SIZES.report(GROUPS, FACTS),
    HOSTS.report(GROUPS, FACTS),
    DETECTOR.report(GROUPS, FACTS),
    COMPARISON.report(Comparison(Maps(1, 8, 8, 2, (3, 4)), [ROW], MACHINE, []), FACTS),
    *(DEPLOYMENT.report(Deployment(view, [DEPLOYED], MACHINE, ["b left out"]), FACTS) for view in VIEWS),
    ACCURACY.report(Accuracy("test", 8, [TRAINED, replace(TRAINED, seed=1)], "a", None, TIMED), FACTS),
    FAMILIES.report(Families({"slide_swin": {"onnx": "1e-7"}}), FACTS),
]


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.figures.get("kind", "sizes"))
def test_a_report_of_every_kind_comes_back_from_json(report: Report) -> None:
    assert restore(json.loads(json.dumps(report.figures))) == report


@pytest.mark.parametrize("report", REPORTS[:-1], ids=lambda report: report.figures.get("kind", "sizes"))
def test_every_kind_that_is_timed_says_that_other_work_was_running(report: Report) -> None:
    assert report.table.notes[-1].startswith("other work is running (1.3 of 2 cores)")


def test_every_kind_is_tried() -> None:
    assert {report.figures.get("kind", "") for report in REPORTS} == set(KINDS)


RESULTS = sorted((Path(__file__).parents[2] / "benchmarks" / "results").glob("*.json"))


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_a_measurement_that_is_kept_loses_nothing(file: Path) -> None:
    figures = json.loads(file.read_text(encoding="utf-8"))
    again = json.loads(json.dumps(restore(figures).figures))
    # Measurements from before the memory of the process, the load and the device time were taken have none.
    text, kept = json.dumps(again), json.dumps(figures)
    for absent in ("process_mib", "load", "device_ms"):
        text, kept = (x.replace(f', "{absent}": null', "") for x in (text, kept))
    assert text == kept


def test_the_time_of_the_device_is_a_column_where_there_is_one() -> None:
    on_gpu = replace(
        GROUPS, groups=[replace(GROUPS.groups[0], rows=[TIMING, replace(TIMING, device_ms=0.25)])]
    )
    table = SIZES.report(on_gpu, FACTS).table
    place = table.headings.index("device ms")
    assert [row[place] for row in table.rows] == ["-", "0.250"]
    assert "device ms" not in SIZES.report(GROUPS, FACTS).table.headings
