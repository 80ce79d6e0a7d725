# SPDX-License-Identifier: Apache-2.0
"""Trainings in processes of their own: their order, what is done already, and what goes wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from slideformer.bench import trials as module
from slideformer.bench.machine import processor
from slideformer.bench.trials import Trial, run_trials, without_result
from slideformer.errors import UserError

# In place of slideformer: a first command "trains", a second one "evaluates".
PROGRAM = """
import pathlib, sys, time
folder = pathlib.Path(next(word for word in sys.argv if "-seed-" in word))
if "wait" in sys.argv:
    (folder / "waits").write_text("")
    time.sleep(60)
if "fail" in sys.argv:
    sys.exit("slideformer: error: it must work, got fail")
weights = folder / "model.safetensors"
if weights.exists():
    (folder / "trial").mkdir()
    (folder / "trial" / "evaluation.json").write_text('{"top1": 0.5}')
weights.write_text("")
with open(folder.parent / "order", "a") as order:
    order.write(f"{sys.argv[1]} {folder.name}\\n")
"""


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run a small program in place of slideformer."""
    start = subprocess.Popen

    def popen(words: list[str], **options: object) -> subprocess.Popen[bytes]:
        if words[:3] == [sys.executable, "-m", "slideformer"]:
            words = [sys.executable, "-c", PROGRAM, *words[3:]]
        return start(words, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(module.subprocess, "Popen", popen)
    monkeypatch.setattr(module, "LOOK", 0.01)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Trial]:
    """A function that makes a trial by its number."""

    def made(number: int, *words: str, after: Trial | None = None) -> Trial:
        training = ("--config", "fashion_mnist", *words)
        return Trial("arm", 1, number, training, ("--data", "x"), tmp_path / f"arm-seed-{number}", after)

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


def test_a_known_result_needs_no_training_unless_another_one_needs_its_run(
    make: Callable[..., Trial],
) -> None:
    host = make(0)
    first, second = make(1, after=host), make(2, after=host)
    trials = [host, first, second]
    assert without_result(trials, [host.digest, first.digest]) == [host, second]
    assert without_result(trials, [x.digest for x in trials]) == []


def test_what_is_done_is_not_done_again(make: Callable[..., Trial], tmp_path: Path) -> None:
    trial = make(0)
    run(trial)
    shutil.rmtree(trial.results)
    run(trial, make(1), processes=2)
    order = (tmp_path / "order").read_text()
    assert order.count("train arm-seed-0") == 1
    assert order.count("evaluate arm-seed-0") == 2


def test_a_training_that_was_stopped_goes_on(make: Callable[..., Trial]) -> None:
    trial = make(0, "--epochs", "3")
    assert trial.command == ["train", *trial.training, "--output", str(trial.folder)]
    trial.folder.mkdir()
    (trial.folder / "config.yaml").write_text("")
    assert trial.command == ["train", "--resume", str(trial.folder)]


def test_a_folder_with_another_training_is_left_alone(make: Callable[..., Trial]) -> None:
    run(make(0))
    with pytest.raises(UserError, match=r"must be empty or hold this training, got another one"):
        run(make(0, "--epochs", "9"))


def test_data_that_have_moved_are_the_same_training(make: Callable[..., Trial], tmp_path: Path) -> None:
    run(make(0, "--data.root", "there"))
    assert run(make(0, "--data.root", "elsewhere")) == []
    assert (tmp_path / "order").read_text().count("train arm-seed-0") == 1


def test_a_training_of_another_recipe_is_another_training(
    make: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(make(0))
    monkeypatch.setattr(module, "read_config", lambda task, file: {"model": {"name": "another"}})
    with pytest.raises(UserError, match=r"must be empty or hold this training, got another one"):
        run(make(0))


def test_the_note_says_what_trained_it(make: Callable[..., Trial]) -> None:
    run(make(0))
    assert make(0).note["torch"] == torch.__version__
    assert make(0).note["processor"] == processor("cpu")
    assert "commit" in make(0).note


def test_other_evaluations_of_the_run_change_nothing(make: Callable[..., Trial]) -> None:
    run(make(0))
    (make(0).folder / "evaluation.json").write_text('{"top1": 1.0}')
    assert make(0).figures == {"top1": 0.5}


def test_a_failure_says_what_the_command_said_and_stops_the_others(
    make: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = Trial.start

    def noted(trial: Trial) -> subprocess.Popen[bytes]:
        started.append(start(trial))
        return started[-1]

    monkeypatch.setattr(Trial, "start", noted)
    with pytest.raises(UserError, match=r"arm, 1 epoch, seed 1 failed: .*it must work, got fail; .*log\.txt"):
        run(make(0, "wait"), make(1, "fail"), processes=2)
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
    assert not make(0, "wait").done


def test_an_interruption_stops_all_and_the_next_call_goes_on(make: Callable[..., Trial]) -> None:
    def interrupt(words: str) -> None:
        if (make(0).folder / "waits").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trials([make(0, "wait")], 1, [].append, interrupt)
    (make(0).folder / "config.yaml").write_text("")
    assert run(make(0, "wait")) == [make(0, "wait")]
    assert make(0).done


def test_a_log_of_any_bytes_has_a_last_line(make: Callable[..., Trial]) -> None:
    trial = make(0)
    trial.folder.mkdir()
    trial.log.write_bytes(b"\xff\n" * 10_000 + b"epoch 1 \xe9\n")
    assert trial.last_words == "epoch 1 \ufffd"
