# SPDX-License-Identifier: Apache-2.0
"""Curves of a benchmark show what was measured."""

from __future__ import annotations

from slideformer.viz.benchmark import benchmark_figure


def group(size: int, **memory: float | None) -> dict[str, object]:
    rows = [{"name": name, "median_ms": 1.0 * size, "memory_mib": value} for name, value in memory.items()]
    return {"size": size, "rows": rows}


def test_a_panel_has_a_line_for_each_candidate_and_leaves_out_what_was_not_measured() -> None:
    conditions = {"work": "forward", "dtype": "float32", "processor": "a processor"}
    groups = [group(7, a=0.0, b=3.0), group(14, a=2.0, b=None)]
    time, memory = benchmark_figure({"conditions": conditions, "groups": groups}).axes
    assert [line.get_xydata().tolist() for line in time.get_lines()] == [[[7, 7], [14, 14]]] * 2
    assert [line.get_xydata().tolist() for line in memory.get_lines()] == [[[14, 2]], [[7, 3]]]
    assert [line.get_label() for line in memory.get_lines()] == ["a", "b"]
    assert time.get_title(loc="left") == "time of a step, ms"
