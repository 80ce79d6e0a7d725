# SPDX-License-Identifier: Apache-2.0
"""The geometry of the window, at the borders above all."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from slideformer.ops.checks import window
from slideformer.ops.window import Axis

CPU = torch.device("cpu")


def test_taps_run_row_by_row() -> None:
    offsets = [window((3, 5), (2, 1)).offset(tap) for tap in range(15)]
    assert offsets[:6] == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (2, 0)]
    assert offsets[-1] == (4, 4)


def test_taps_of_any_number_of_axes_are_in_row_major_order() -> None:
    assert [window(5, 3, axes=1).offset(tap) for tap in range(5)] == [(0,), (3,), (6,), (9,), (12,)]
    offsets = [window((3, 1, 5), (2, 1, 1), axes=3).offset(tap) for tap in range(15)]
    assert offsets[4:7] == [(0, 0, 4), (2, 0, 0), (2, 0, 1)]


def test_wrap_begins_again_at_the_other_end() -> None:
    assert Axis(4, 3, 2, "wrap").sources(CPU).tolist() == [[2, 0, 2], [3, 1, 3], [0, 2, 0], [1, 3, 1]]
    assert Axis(5, 3, 1, "wrap").relative(CPU).tolist() == [[1, 2, 3]] * 5


def test_zeros_and_mask_read_beyond_the_map() -> None:
    assert Axis(4, 3, 2, "zeros").sources(CPU).tolist() == [[-2, 0, 2], [-1, 1, 3], [0, 2, 4], [1, 3, 5]]


def test_clamp_slides_inward() -> None:
    assert Axis(5, 3, 1, "clamp").sources(CPU).tolist() == [
        [0, 1, 2],
        [0, 1, 2],
        [1, 2, 3],
        [2, 3, 4],
        [2, 3, 4],
    ]


def test_clamp_stays_on_the_grid_of_its_query() -> None:
    sources = Axis(7, 3, 2, "clamp").sources(CPU)
    assert sources[:, 0].tolist() == [0, 1, 0, 1, 2, 1, 2]
    assert bool((sources % 2 == torch.arange(7)[:, None] % 2).all())


def test_clamp_holds_all_there_is_of_a_map_smaller_than_the_window() -> None:
    axis = Axis(2, 5, 1, "clamp")
    assert axis.inside(CPU).sum(1).tolist() == [2, 2]
    assert axis.padding == (0, 3)


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_padding_is_what_the_taps_reach(size: int, kernel: int, dilation: int) -> None:
    for border in ("zeros", "mask", "clamp"):
        axis = Axis(size, kernel, dilation, border)
        before, after = axis.padding
        sources = axis.sources(CPU)
        assert int(sources.min()) >= -before
        assert int(sources.max()) < size + after
        if not axis.excludes and border != "zeros":
            assert bool(axis.inside(CPU).all())


def test_relative_index_is_the_distance_in_taps() -> None:
    axis = Axis(5, 3, 1, "clamp")
    assert axis.relative(CPU).tolist() == [[2, 3, 4], [1, 2, 3], [1, 2, 3], [1, 2, 3], [0, 1, 2]]


@pytest.mark.parametrize("border", ["zeros", "mask", "clamp", "wrap", ("wrap", "zeros"), ("clamp", "wrap")])
def test_fold_is_the_transpose_of_pad(border: Any) -> None:
    shape = window((3, 5), (2, 1), border)
    x = torch.randn(2, 6, 7, 1, 2, dtype=torch.float64)
    padded = shape.pad(x)
    y = torch.randn_like(padded)
    torch.testing.assert_close((padded * y).sum(), (x * shape.fold(y, (6, 7))).sum())


@pytest.mark.parametrize("border", ["zeros", "clamp", ("clamp", "zeros"), ("wrap", "clamp")])
def test_add_shifted_is_the_transpose_of_shifted(border: Any) -> None:
    shape = window((3, 5), (2, 1), border)
    x, y = torch.randn(2, 5, 6, 1, 2, dtype=torch.float64), torch.randn(2, 3, 6, 1, 2, dtype=torch.float64)
    padded = shape.pad(x)
    rows, starts = slice(1, 4), shape.starts((5, 6), CPU)
    for tap in range(shape.taps):
        into = torch.zeros_like(padded)
        shape.add_shifted(into, tap, rows, starts, y, torch.ones_like(y))
        seen = shape.shifted(padded, tap, rows, starts)
        torch.testing.assert_close((seen * y).sum(), (padded * into).sum())
