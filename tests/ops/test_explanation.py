# SPDX-License-Identifier: Apache-2.0
"""What the operator says of its own choice."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from slideformer import backends, explain, slide_attention
from slideformer.ops import backend as table
from slideformer.ops.cpu import library

QUERY = torch.empty(8, 56, 56, 3, 32, device="meta")
SHIFT = torch.empty(32, 9, 9, device="meta")


def test_auto_takes_the_first_backend_that_accepts() -> None:
    explanation = explain(QUERY, QUERY, QUERY)
    assert explanation.chosen == ("matmul" if library.missing() else "cpu")
    assert explain(QUERY.double(), QUERY.double(), QUERY.double()).chosen == "matmul"
    assert set(explanation.costs) == {backend.name for backend in backends()}


def test_cost_is_the_papers_count() -> None:
    positions, channels, taps = 8 * 56 * 56, 96, 9
    plain, deformed = explain(QUERY, QUERY, QUERY), explain(QUERY, QUERY, QUERY, shift_weight=SHIFT)
    assert plain.costs["matmul"].flops == 2 * 2 * positions * channels * taps
    assert deformed.costs["matmul"].flops == 2 * 2 * positions * channels * (taps**2 + taps)
    assert plain.costs["conv"] == deformed.costs["conv"]


@pytest.mark.parametrize("size", [(1000,), (5, 10, 20)], ids=["sequence", "volume"])
def test_cost_is_the_same_count_on_other_maps(size: tuple[int, ...]) -> None:
    maps = torch.empty(2, *size, 3, 32, device="meta")
    taps = 3 ** len(size)
    shift = torch.empty(32, taps, taps, device="meta")
    costs = explain(maps, maps, maps, shift_weight=shift).costs
    assert costs["matmul"].flops == 2 * 2 * (2 * 1000) * 96 * (taps**2 + taps)
    assert costs["shift"].memory_bytes == 2 * taps * maps.numel() * 4


def test_copies_of_the_map_cost_memory() -> None:
    costs = explain(QUERY, QUERY, QUERY).costs
    one_map = QUERY.numel() * 4
    assert costs["unfold"].memory_bytes == 18 * one_map
    assert costs["matmul"].memory_bytes <= 2 * one_map


def test_printed_it_is_a_table_that_marks_the_choice() -> None:
    lines = str(explain(QUERY, QUERY, QUERY, backend="conv")).splitlines()
    assert len(lines) == 1 + len(backends())
    (chosen,) = [line for line in lines if line.startswith("> ")]
    assert chosen.split()[1] == "conv"


@pytest.fixture
def sulking_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        replace(row, refusal=lambda call: "it rains")
        if row.name in ("triton", "cpu", "matmul")
        else replace(row, automatic=True)
        for row in table.BACKENDS
    ]
    monkeypatch.setattr(table, "BACKENDS", tuple(rows))


@pytest.mark.usefixtures("sulking_backends")
def test_auto_moves_on_from_a_backend_that_refuses() -> None:
    explanation = explain(QUERY, QUERY, QUERY)
    assert explanation.chosen == "conv"
    assert explanation.refused == dict.fromkeys(("triton", "cpu", "matmul"), "it rains")
    assert "it rains" in str(explanation)


@pytest.mark.usefixtures("sulking_backends")
def test_a_named_backend_never_falls_back_in_silence() -> None:
    with pytest.raises(ValueError, match="backend 'matmul' cannot take this call: it rains"):
        slide_attention(*torch.randn(3, 1, 4, 4, 1, 4), backend="matmul")


def test_meta_tensors_run_through_every_backend() -> None:
    for backend in backends():
        if backend.name in explain(QUERY, QUERY, QUERY).refused:
            continue
        output = slide_attention(QUERY, QUERY, QUERY, shift_weight=SHIFT, backend=backend.name)
        assert output.shape == QUERY.shape
