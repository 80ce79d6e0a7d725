# SPDX-License-Identifier: Apache-2.0
"""Curves of a benchmark show what was measured."""

from __future__ import annotations

import pytest

from slideformer.viz.benchmark import benchmark_figure, line_colours

CONDITIONS = {
    "work": "forward + backward",
    "subject": "deformed K = 3, batch 8, 7 x 7, 14 x 14, 3 heads of 32",
    "dtype": "float32",
    "compiled": True,
    "processor": "a processor",
    "threads": 2,
}


def group(size: int, **memory: float | None) -> dict[str, object]:
    rows = [{"name": name, "median_ms": 1.0 * size, "memory_mib": value} for name, value in memory.items()]
    return {"size": size, "rows": rows}


def test_a_panel_has_a_line_for_each_candidate_and_leaves_out_what_was_not_measured() -> None:
    groups = [group(7, a=0.0, b=3.0), group(14, a=2.0, b=None)]
    time, memory = benchmark_figure({"conditions": CONDITIONS, "groups": groups}).axes
    assert [line.get_xydata().tolist() for line in time.get_lines()] == [[[7, 7], [14, 14]]] * 2
    assert [line.get_xydata().tolist() for line in memory.get_lines()] == [[[14, 2]], [[7, 3]]]
    assert [line.get_label() for line in memory.get_lines()] == ["a", "b"]
    assert time.get_title(loc="left") == "time of a call, ms"


@pytest.mark.parametrize("sizes", ["7 x 7", ", ".join(f"{n} x {n}" for n in range(20))])
def test_the_title_names_work_shape_dtype_and_device_and_fits_the_figure(sizes: str) -> None:
    conditions = {**CONDITIONS, "subject": f"deformed K = 3, batch 8, {sizes}, 3 heads of 32"}
    figure = benchmark_figure({"conditions": conditions, "groups": [group(7, a=1.0)]})
    assert " ".join(figure.get_suptitle().split()) == (
        f"forward + backward: deformed K = 3, batch 8, {sizes}, 3 heads of 32, float32, compiled "
        "a processor, 2 threads; medians"
    )
    figure.canvas.draw()
    (title,) = (text for text in figure.texts if text.get_text() == figure.get_suptitle())
    place = title.get_window_extent()
    assert 0 <= place.x0 < place.x1 <= figure.bbox.width


@pytest.mark.parametrize("count", [1, 10, 11, 30])
def test_every_candidate_has_a_colour_of_its_own(count: int) -> None:
    names = {f"candidate {number}": 1.0 for number in range(count)}
    figure = benchmark_figure({"conditions": CONDITIONS, "groups": [group(7, **names)]})
    for axes in figure.axes:
        assert len({line.get_color() for line in axes.get_lines()}) == count
    assert len(set(line_colours(count))) == count


def test_the_legend_covers_no_line() -> None:
    figure = benchmark_figure(
        {"conditions": CONDITIONS, "groups": [group(7, **{f"c{n}": 1.0 for n in range(12)})]}
    )
    figure.canvas.draw()
    (legend,) = figure.legends
    top = legend.get_window_extent().y1
    assert all(axes.get_window_extent().y0 > top for axes in figure.axes)


@pytest.mark.parametrize("last", [2.4, 9.0, 3e5])
def test_an_axis_has_numbers_however_much_it_spans(last: float) -> None:
    groups = [group(7, a=2.2), group(14, a=last)]
    figure = benchmark_figure({"conditions": CONDITIONS, "groups": groups})
    figure.canvas.draw()
    _, memory = figure.axes
    low, high = memory.get_ylim()
    assert len([tick for tick in memory.get_yticks() if low <= tick <= high]) >= 2
