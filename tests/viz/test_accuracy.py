# SPDX-License-Identifier: Apache-2.0
"""Accuracies are drawn where they were measured."""

from __future__ import annotations

from typing import Any

import pytest

from slideformer.viz.accuracy import drawn


def outcome(arm: str, epochs: int, seed: int, top1: float) -> dict[str, Any]:
    return {"arm": arm, "epochs": epochs, "seed": seed, "top1": top1}


def figures(outcomes: list[dict[str, Any]], **others: Any) -> dict[str, Any]:
    return {"images": 1280, "split": "test", "target": None, "steps": None, "outcomes": outcomes, **others}


def places(figure: Any) -> dict[str, list[list[float]]]:
    """Middle points of each series by its label."""
    (axes,) = figure.axes
    return {series.get_label(): series.lines[0].get_xydata().tolist() for series in axes.containers}


def test_arms_of_one_length_are_drawn_by_the_time_of_an_epoch_with_their_error() -> None:
    rows = [{"name": name, "median_ms": ms, "images": 128} for name, ms in (("a", 500.0), ("b", 1000.0))]
    found = [outcome("a", 10, 0, 0.9), outcome("a", 10, 1, 0.92), outcome("b", 10, 0, 0.8)]
    figure = drawn(figures(found, steps={"rows": rows}))
    assert places(figure) == {"a": [[5.0, pytest.approx(91.0)]], "b": [[10.0, 80.0]]}
    bar = figure.axes[0].containers[0].lines[2][0].get_segments()[0][:, 1].tolist()
    assert bar == pytest.approx([90.0, 92.0])


def test_arms_of_several_lengths_are_curves_and_the_target_is_a_level() -> None:
    found = [outcome("host", 10, 0, 0.95)]
    found += [outcome("a", length, 0, 0.1 * length) for length in (1, 2, 5)]
    figure = drawn(figures(found, target="host"))
    assert places(figure) == {"a": [[1.0, 10.0], [2.0, 20.0], [5.0, 50.0]]}
    (level,) = (line for line in figure.axes[0].lines if line.get_label() == "host")
    assert set(level.get_ydata()) == {95.0}
