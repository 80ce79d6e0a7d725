# SPDX-License-Identifier: Apache-2.0
"""Trainings in processes of their own: their order, what is done already, and what goes wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slideformer.bench import trials as module
from slideformer.bench.trials import Trial, run_trials
from slideformer.errors import UserError

# In place of slideformer: a first command "trains", a second one "evaluates".
PROGRAM = """
import pathlib, sys
folder = pathlib.Path(next(word for word in sys.argv if "-seed-" in word))
if "fail" in sys.argv:
    sys.exit("slideformer: error: it must work, got fail")
weights = folder / "model.safetensors"
(folder / "evaluation.json").write_text('{"top1": 0.5}') if weights.exists() else weights.write_text("")
with open(folder.parent / "order", "a") as order:
    order.write(f"{sys.argv[1]} {folder.name}\\n")
"""


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run a small program in place of slideformer."""
    start = subprocess.Popen

    def popen(words: list[str], **options: object) -> subprocess.Popen[bytes]:
        assert words[:3] == [sys.executable, "-m", "slideformer"]
        return start([sys.executable, "-c", PROGRAM, *words[3:]], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(module.subprocess, "Popen", popen)
    monkeypatch.setattr(module, "LOOK", 0.01)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Trial]:
    """A function that makes a trial by its number."""

    def made(number: int, *words: str, after: Trial | None = None) -> Trial:
        return Trial("arm", 1, number, words, ("--data", "x"), tmp_path / f"arm-seed-{number}", after)

    return made


def run(*trials: Trial, processes: int = 1, shown: list[str] | None = None) -> list[Trial]:
    """Run trials; those that were done now."""
    ended: list[Trial] = []
    run_trials(trials, processes, ended.append, [].append if shown is None else shown.append)
    return ended


def test_a_trial_is_trained_then_evaluated_and_reported(make: Callable[..., Trial], tmp_path: Path) -> None:
    first, second = make(0), make(1)
    shown: list[str] = []
    assert run(first, second, shown=shown) == [first, second]
    assert shown[0].startswith("0 of 2 trainings done; arm, 1 epoch, seed 0:")
    assert shown[-1] == "2 of 2 trainings done"
    assert (tmp_path / "order").read_text().splitlines() == [
        "train arm-seed-0",
        "evaluate arm-seed-0",
        "train arm-seed-1",
        "evaluate arm-seed-1",
    ]


def test_a_trial_waits_for_the_one_that_it_needs(make: Callable[..., Trial], tmp_path: Path) -> None:
    host = make(0)
    run(make(1, after=host), host, processes=2)
    names = [line.split()[1] for line in (tmp_path / "order").read_text().splitlines()]
    assert names == ["arm-seed-0", "arm-seed-0", "arm-seed-1", "arm-seed-1"]


def test_what_is_done_is_not_done_again(make: Callable[..., Trial], tmp_path: Path) -> None:
    trial = make(0)
    run(trial)
    trial.figures.unlink()
    run(trial, make(1), processes=2)
    order = (tmp_path / "order").read_text()
    assert order.count("train arm-seed-0") == 1
    assert order.count("evaluate arm-seed-0") == 2


def test_a_training_that_was_stopped_goes_on(make: Callable[..., Trial]) -> None:
    trial = make(0, "--epochs", "3")
    assert trial.command == ["train", "--epochs", "3", "--output", str(trial.folder)]
    trial.folder.mkdir()
    (trial.folder / "config.yaml").write_text("")
    assert trial.command == ["train", "--resume", str(trial.folder)]


def test_a_folder_with_another_training_is_left_alone(make: Callable[..., Trial]) -> None:
    run(make(0))
    with pytest.raises(UserError, match=r"must be empty or hold this training, got another one"):
        run(make(0, "--epochs", "9"))


def test_a_failure_says_what_the_command_said_and_stops_the_others(make: Callable[..., Trial]) -> None:
    with pytest.raises(UserError, match=r"arm, 1 epoch, seed 0 failed: .*it must work, got fail; .*log\.txt"):
        run(make(0, "fail"), make(1))
    assert not make(1).done
