# SPDX-License-Identifier: Apache-2.0
"""The fast tier: of a parametrisation that takes long, some rows; all others carry the marker ``slow``.

``make test`` runs all that is not slow, ``make test-all`` everything.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import pytest


def fast(rows: Iterable[Any], *kept: Any) -> list[Any]:
    """The same rows, to be given to ``parametrize`` or a fixture, marked ``slow`` except for some.

    Args:
        rows: the values of one argument of a test, each once.
        kept: the rows of the fast tier; default: the first.
    """
    rows = list(rows)
    kept = kept or tuple(rows[:1])
    missing = [row for row in kept if row not in rows]
    assert not missing, f"the fast tier keeps {missing}, which are not among the rows"
    return [row if row in kept else pytest.param(row, marks=pytest.mark.slow) for row in rows]


def pairwise(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Few rows in which every two entries of two axes meet at least once, in place of the full product.

    Entries must be hashable. The same axes give the same rows.
    """
    product = list(itertools.product(*axes))
    open_pairs = set().union(*(pairs(row) for row in product))
    rows = []
    while open_pairs:
        row = max(product, key=lambda row: len(pairs(row) & open_pairs))
        open_pairs -= pairs(row)
        rows.append(row)
    return rows


def pairs(row: Sequence[Any]) -> set[Any]:
    """The pairs of entries of a row, each with its axes."""
    return set(itertools.combinations(enumerate(row), 2))
