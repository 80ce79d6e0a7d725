# SPDX-License-Identifier: Apache-2.0
"""Means, paired differences and intervals of accuracies, against NumPy and SciPy."""

from __future__ import annotations

import json
from math import isnan

import numpy as np
import pytest
from scipy import stats

from slideformer.bench.accuracy import Accuracy, Outcome, closed, difference, rows_of
from slideformer.bench.report import ACCURACY, restore

FACTS = {
    "subject": "Fashion-MNIST, 20,000 images an epoch",
    "processor": "a processor",
    "torch": "2",
    "commit": "abc",
    "date": "2026-01-01",
    "command": "slideformer bench accuracy ablation",
}
SLIDE, WINDOW = [0.901, 0.893, 0.905, 0.899, 0.9], [0.897, 0.894, 0.899, 0.896, 0.893]


def outcomes(arms: dict[str, list[float]], epochs: int = 10) -> list[Outcome]:
    return [
        Outcome(arm, epochs, seed, 1000, top1)
        for arm, found in arms.items()
        for seed, top1 in enumerate(found)
    ]


def study(found: list[Outcome], target: str | None = None) -> Accuracy:
    return Accuracy("test", 20_000, found, "slide", target)


def test_a_row_has_mean_and_standard_error_of_its_seeds() -> None:
    slide, window = rows_of(outcomes({"slide": SLIDE, "window": WINDOW}))
    for row, values in ((slide, SLIDE), (window, WINDOW)):
        assert row.mean == pytest.approx(100 * np.mean(values))
        assert row.error == pytest.approx(100 * stats.sem(values))


@pytest.mark.parametrize("share", [0.95, 0.9875])
def test_a_difference_is_paired_by_seed_with_students_interval(share: float) -> None:
    slide, window = rows_of(outcomes({"slide": SLIDE, "window": WINDOW}))
    middle, half = difference(window, slide, share)
    wanted = stats.ttest_rel(np.multiply(100, WINDOW), np.multiply(100, SLIDE)).confidence_interval(share)
    assert (middle - half, middle + half) == pytest.approx((wanted.low, wanted.high))


def test_the_conditions_are_those_of_every_training() -> None:
    made = [("a1", "2.11", "a Xeon"), ("b2", "2.15", "an EPYC"), ("b2", "2.15", "a Xeon")]
    found = [
        Outcome("slide", 10, seed, 1000, 0.9, commit, None, torch, processor)
        for seed, (commit, torch, processor) in enumerate(made)
    ]
    words = ACCURACY.report(study(found), FACTS).table.conditions
    assert "trained on a Xeon, an EPYC, one thread a training, PyTorch 2.11, 2.15, commit a1, b2;" in words
    assert FACTS["processor"] not in words


def test_seeds_that_one_arm_lacks_do_not_count() -> None:
    found = [x for x in outcomes({"slide": SLIDE, "window": WINDOW}) if (x.arm, x.seed) != ("window", 2)]
    slide, window = rows_of(found)
    pairs = [100 * (b - a) for seed, (a, b) in enumerate(zip(SLIDE, WINDOW, strict=True)) if seed != 2]
    assert difference(window, slide)[0] == pytest.approx(np.mean(pairs))


def test_a_single_seed_has_no_error_and_no_interval() -> None:
    slide, window = rows_of(outcomes({"slide": [0.9], "window": [0.8]}))
    middle, half = difference(window, slide)
    assert middle == pytest.approx(-10)
    assert isnan(half)
    assert isnan(slide.error)
    table = ACCURACY.report(study(outcomes({"slide": [0.9], "window": [0.8]})), FACTS).table
    assert table.headings == ["arm", "parameters", "seeds", "top-1 %", "difference"]
    assert table.rows == [["slide", "1,000", "1", "90.00", "-"], ["window", "1,000", "1", "80.00", "-10.00"]]


def test_a_single_arm_is_not_compared() -> None:
    table = ACCURACY.report(study(outcomes({"slide": SLIDE})), FACTS).table
    assert table.headings == ["arm", "parameters", "seeds", "top-1 %", "standard error"]
    assert "difference" not in table.conditions


def test_the_gap_to_the_target_is_closed_in_part() -> None:
    scratch, warm, host = rows_of(
        outcomes({"scratch": [0.70, 0.71], "warm": [0.80, 0.81], "host": [0.90, 0.91]})
    )
    assert closed(warm, scratch, host) == pytest.approx(0.5)
    assert isnan(closed(warm, host, scratch))


def test_no_gap_is_closed_where_it_is_not_sure_that_there_is_one() -> None:
    scratch, warm, host = rows_of(outcomes({"scratch": [0.7, 0.9], "warm": [0.8, 0.9], "host": [0.9, 0.8]}))
    assert isnan(closed(warm, scratch, host))
    alone = outcomes({"slide": [0.1], "warm": [0.2], "host": [0.1]})
    table = ACCURACY.report(study(alone, target="host"), FACTS).table
    assert [row[table.headings.index("gap closed")] for row in table.rows] == ["-", "-", "-"]


def test_the_table_compares_arms_of_one_length_alone() -> None:
    found = [
        *outcomes({"host": [0.9]}, 10),
        *outcomes({"slide": [0.5], "warm": [0.8]}, 1),
        *outcomes({"slide": [0.7], "warm": [0.85]}, 2),
    ]
    table = ACCURACY.report(study(found, target="host"), FACTS).table
    columns = [table.headings.index(name) for name in ("epochs", "difference", "gap closed")]
    assert [[row[0], *(row[i] for i in columns)] for row in table.rows] == [
        ["host", "10", "-", "-"],
        ["slide", "1", "-", "-"],
        ["warm", "1", "+30.00", "75 %"],
        ["slide", "2", "-", "-"],
        ["warm", "2", "+15.00", "75 %"],
    ]


def test_a_report_comes_back_from_json() -> None:
    report = ACCURACY.report(study(outcomes({"slide": SLIDE, "window": WINDOW})), FACTS)
    again = restore(json.loads(json.dumps(report.figures)))
    assert again.table == report.table
    assert again.figures == report.figures


def test_a_verdict_is_sure_where_the_interval_leaves_out_zero() -> None:
    arms = {"slide": SLIDE, "same": [x + 0.0001 * (-1) ** i for i, x in enumerate(SLIDE)]}
    arms |= {"better": [x + 0.01 + 0.001 * i for i, x in enumerate(SLIDE)]}
    arms |= {"worse": [x - 0.01 - 0.001 * i for i, x in enumerate(SLIDE)]}
    assert ACCURACY.report(study(outcomes(arms)), FACTS).table.notes == [
        "3 comparisons together (Bonferroni), no sure difference from slide: same",
        "3 comparisons together (Bonferroni), better than slide: better",
        "3 comparisons together (Bonferroni), worse than slide: worse",
    ]


def test_a_difference_that_one_comparison_would_be_sure_of_is_not_sure_among_several() -> None:
    near = [x + 0.003 + 0.0022 * (-1) ** i for i, x in enumerate(SLIDE)]
    alone = {"slide": SLIDE, "near": near}
    among = alone | {f"same {n}": [x + 0.0001 * (-1) ** i for i, x in enumerate(SLIDE)] for n in range(4)}
    notes = [ACCURACY.report(study(outcomes(arms)), FACTS).table.notes[0] for arms in (alone, among)]
    assert "better than slide: near" in notes[0]
    assert "no sure difference from slide: near" in notes[1]


def test_the_sentence_names_the_commits_that_trained() -> None:
    found = [*outcomes({"slide": [0.9]}), Outcome("window", 10, 0, 1000, 0.9, "abc1234")]
    assert ", commit unknown, abc1234;" in ACCURACY.report(study(found), FACTS).table.conditions
