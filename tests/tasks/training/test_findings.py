# SPDX-License-Identifier: Apache-2.0
"""Findings in the data are counted and reported."""

from __future__ import annotations

import pytest

from slideformer.errors import UserError
from slideformer.tasks.training.findings import Findings


def test_a_report_counts_and_shows_the_first_examples_the_gravest_first() -> None:
    findings = Findings(facts=["train: 3 images"])
    findings.note("crowd regions", "annotation 5")
    for number in range(5):
        findings.left_out("empty masks", f"annotation {number}")
    findings.error("missing images", "a.jpg must exist; put it there")
    assert findings.lines() == [
        "train: 3 images",
        "error: missing images: 1",
        "  a.jpg must exist; put it there",
        "left out: empty masks: 5 (annotation 0, annotation 1, annotation 2, ...)",
        "note: crowd regions: 1 (annotation 5)",
    ]
    assert findings.summary() == "left out of the training: 5 empty masks"


def test_what_is_left_out_or_noted_stops_nothing() -> None:
    findings = Findings()
    findings.check()
    findings.left_out("empty masks", "annotation 1")
    findings.note("crowd regions", "annotation 2")
    findings.check()
    assert findings.errors == 0
    assert Findings().summary() == ""


def test_an_error_stops_and_says_how_many_more_there_are() -> None:
    findings = Findings()
    findings.error("missing images", "a.jpg must exist")
    with pytest.raises(UserError, match=r"^a.jpg must exist$"):
        findings.check()
    for number in range(9):
        findings.error("unknown categories", f"category {number} must be listed")
    assert findings.errors == 10
    with pytest.raises(
        UserError, match=r"^a.jpg must exist \(9 more; `slideformer check-data` lists them\)$"
    ):
        findings.check()
    assert "  and 6 more" in findings.lines()
