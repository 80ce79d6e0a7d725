# SPDX-License-Identifier: Apache-2.0
"""The helpers that sort tests into tiers."""

from __future__ import annotations

import itertools

import pytest

from tests.tiers import fast, pairwise


def test_all_rows_but_the_kept_ones_are_slow() -> None:
    assert [getattr(row, "values", row) for row in fast("abc")] == ["a", ("b",), ("c",)]
    assert [getattr(row, "values", row) for row in fast("abc", "b")] == [("a",), "b", ("c",)]
    assert {mark.name for row in fast("abc")[1:] for mark in row.marks} == {"slow"}


def test_a_kept_row_must_be_a_row() -> None:
    with pytest.raises(AssertionError, match=r"keeps \['d'\]"):
        fast("abc", "d")


def test_every_two_entries_meet_in_fewer_rows_than_all() -> None:
    axes = ("abc", range(4), (True, False), "xyz")
    rows = pairwise(*axes)
    for (i, one), (j, other) in itertools.combinations(enumerate(axes), 2):
        assert {(row[i], row[j]) for row in rows} == set(itertools.product(one, other))
    assert len(rows) < 3 * 4 * 2 * 3 / 4
