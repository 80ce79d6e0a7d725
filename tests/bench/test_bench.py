# SPDX-License-Identifier: Apache-2.0
"""The benchmark measures what it says, and only what is right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from slideformer.bench import (
    Machine,
    Measurement,
    PeakMemory,
    Problem,
    conditions,
    markdown,
    measure,
    measurement,
    text,
)
from slideformer.bench.cases import AUTHORS, candidates, expected
from slideformer.cli.main import main
from slideformer.errors import UserError

SMALL = Problem(batch=1, size=6, heads=2, head_dim=4)


@pytest.mark.parametrize("deformed", [True, False])
@pytest.mark.parametrize("name", candidates())
def test_every_candidate_computes_the_operator(name: str, deformed: bool) -> None:
    problem = Problem(batch=2, size=5, heads=2, head_dim=4, deformed=deformed)
    tensors = problem.tensors()
    torch.testing.assert_close(candidates()[name](tensors, problem), expected(name, tensors, problem))


def test_peak_memory_counts_what_lives_at_once() -> None:
    with PeakMemory() as memory:
        first = torch.empty(1000)
        second = first.view(10, 100)  # no new storage
        third = torch.empty(500)
        del first, second
        fourth = torch.empty(800)
    assert memory.peak == 4 * (1000 + 500)
    assert memory.bytes == 4 * (500 + 800)
    del third, fourth
    assert memory.bytes == 0


def test_peak_memory_leaves_out_what_was_there_before() -> None:
    before = torch.empty(1000)
    with PeakMemory() as memory:
        before.add_(1)
    assert memory.peak <= 4


def test_the_tiled_backend_holds_less_than_a_quarter_of_the_authors_form() -> None:
    problem = Problem(batch=2, size=28, heads=2, head_dim=16)
    measured, machine = measure(problem, rounds=1, backward=False, progress=lambda words: None)
    rows = {row.name: row for row in measured}
    assert machine.gemm_gflops > 0
    assert machine.copy_ms > 0
    assert rows["slideformer matmul"].memory_mib < rows[AUTHORS].memory_mib / 4


def test_a_candidate_that_is_wrong_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    table = candidates()
    table["cheat"] = lambda tensors, problem: tensors.value * 0
    monkeypatch.setattr(measurement, "candidates", lambda: table)
    with pytest.raises(UserError, match="cheat must agree with the reference"):
        measure(SMALL, rounds=1, backward=False, progress=lambda words: None)


@pytest.mark.parametrize("backward", [False, True])
def test_the_command_prints_conditions_and_writes_them(
    backward: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    words = [
        "--batch",
        "1",
        "--size",
        "6",
        "--heads",
        "2",
        "--head-dim",
        "4",
        "--rounds",
        "2",
        "--json",
        str(file),
    ]
    assert main(["bench", "operator", *words, *(["--backward"] if backward else [])]) == 0
    out = capsys.readouterr().out
    data = json.loads(file.read_text())
    assert data["conditions"]["work"] == ("forward + backward" if backward else "forward")
    assert {row["name"] for row in data["measurements"]} == set(candidates())
    for word in (data["conditions"]["command"], "PyTorch", "alternating", AUTHORS):
        assert word in out


def test_ratios_are_to_the_authors_form() -> None:
    rows = [
        Measurement(AUTHORS, 100.0, (90.0, 110.0), 8.0, 0.0),
        Measurement("quick", 10.0, (9.0, 11.0), 1.0, 0.0),
    ]
    machine = Machine(gemm_gflops=50.0, copy_ms=1.0)
    facts = conditions(SMALL, machine, backward=False, rounds=3, command="slideformer bench operator")
    first, second = markdown(rows, facts).splitlines()[2:4]
    assert first == "| quick | 10.0 | 9.0-11.0 | 10.0 | 0.0 | 0 % | 1.0 |"
    assert second == f"| {AUTHORS} | 100.0 | 90.0-110.0 | 1.0 | 0.0 | 0 % | 8.0 |"
    assert "quick" in text(rows, facts)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "0"], "--size must be at least 1, got 0"),
        (["--kernel-size", "2"], "--kernel-size must be odd, got 2; use 3"),
        (["--border", "clamp"], "a learned shift needs --border zeros, got clamp; add --plain"),
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--json", "nowhere/figures.json"], "--json must lie in a folder that exists"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "operator", *words]) == 2
    assert message in capsys.readouterr().err
