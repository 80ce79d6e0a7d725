# SPDX-License-Identifier: Apache-2.0
"""Trainings to compare: each a run in a process of its own, taken up where an earlier call stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from slideformer.bench.machine import commit, processor
from slideformer.errors import UserError
from slideformer.files import write_text
from slideformer.runs.fields import read_object
from slideformer.tasks.training.recipes import find_config, read_config
from slideformer.tasks.training.run_folder import RunFolder

# Seconds from one look at the processes to the next.
LOOK = 0.5
# Bytes at the end of a log that are looked at.
TAIL = 4096
# Options whose value is a folder of this machine.
PLACES = ("--data.root", "--root")


@dataclass(frozen=True)
class Trial:
    """A training and its evaluation, after the last epoch.

    Attributes:
        arm: what is trained.
        epochs: how long.
        seed: of everything random.
        training: words of the command line of ``slideformer train``, without the folder; a recipe first.
        evaluation: words of that of ``slideformer evaluate``, without the folder.
        folder: of its run.
        after: the training whose run it needs; None for none.
    """

    arm: str
    epochs: int
    seed: int
    training: tuple[str, ...]
    evaluation: tuple[str, ...]
    folder: Path
    after: Trial | None = None

    def __str__(self) -> str:
        return f"{self.arm}, {self.epochs} epoch{'' if self.epochs == 1 else 's'}, seed {self.seed}"

    @property
    def run(self) -> RunFolder:
        """The files of its run."""
        return RunFolder(self.folder)

    @property
    def results(self) -> Path:
        """The folder of its evaluation, which no other evaluation of the run writes to."""
        return self.folder / "trial"

    @property
    def done(self) -> bool:
        """Whether it is trained and evaluated."""
        return (self.results / "evaluation.json").exists()

    @property
    def figures(self) -> dict[str, Any]:
        """Those of its evaluation."""
        return dict(read_object(self.results / "evaluation.json"))

    @property
    def note(self) -> dict[str, Any]:
        """The note of what was trained, and by what."""
        return dict(read_object(self.folder / "trial.json"))

    @property
    def log(self) -> Path:
        """The file that has what its processes printed."""
        return self.folder / "log.txt"

    @property
    def last_words(self) -> str:
        """The last line that its processes printed."""
        if not self.log.exists():
            return ""
        with open(self.log, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL))
            lines = log.read().decode(errors="replace").splitlines()
        return lines[-1] if lines else ""

    @property
    def command(self) -> list[str]:
        """The next command, where it is not done."""
        if self.run.weights.exists():
            return ["evaluate", str(self.folder), *self.evaluation, "--output", str(self.results)]
        if self.run.config.exists():
            return ["train", "--resume", str(self.folder)]
        return ["train", *self.training, "--output", str(self.folder)]

    @property
    def digest(self) -> str:
        """A short text that is the same for the same training on any machine, and differs for any other."""
        options = [*self.training, *self.evaluation]
        words = [word for name, word in zip(["", *options], options, strict=False) if name not in PLACES]
        if self.after is not None:
            words = [word.replace(str(self.after.folder), self.after.digest) for word in words]
        _, recipe, *_ = self.training
        values = read_config("classify", find_config("classify", recipe))
        text = json.dumps([self.arm, self.epochs, self.seed, words, values], sort_keys=True)
        return sha256(text.encode()).hexdigest()[:16]

    def prepare(self) -> None:
        """Make the folder, with a note of what is trained there, and by what.

        Raises:
            UserError: it holds something else.
        """
        file = self.folder / "trial.json"
        if file.exists() and self.note.get("digest") == self.digest:
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            raise UserError(
                f"{self.folder} must be empty or hold this training, got another one; remove it, or choose "
                "another `output`"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        asked = {"digest": self.digest, "training": self.training, "evaluation": self.evaluation}
        made_by = {"commit": commit(), "torch": torch.__version__, "processor": processor("cpu")}
        write_text(file, json.dumps({**asked, **made_by}, indent=2) + "\n")

    def start(self) -> subprocess.Popen[bytes]:
        """Begin the next command, on one thread."""
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "slideformer", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )


def without_result(trials: Sequence[Trial], known: Collection[str | None]) -> list[Trial]:
    """The trainings whose digest is not known, and those whose runs they need."""
    missing = [trial for trial in trials if trial.digest not in known]
    needed = [trial.after for trial in missing]
    return [trial for trial in trials if trial in missing or trial in needed]


def run_trials(
    trials: Sequence[Trial],
    processes: int,
    ended: Callable[[Trial], None],
    progress: Callable[[str], None],
) -> None:
    """Train and evaluate all, some at a time; what an earlier call has done is left as it is.

    A process that is stopped leaves what its run can go on from.

    Args:
        trials: in the order of their beginning.
        processes: how many at a time.
        ended: called with each that was done now.
        progress: called with a few words on what is being done.

    Raises:
        UserError: a folder holds something else, or a command failed.
    """
    for trial in trials:
        trial.prepare()
    waiting = [trial for trial in trials if not trial.done]
    running: dict[Trial, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            ready = [trial for trial in waiting if trial.after is None or trial.after.done]
            for trial in ready[: processes - len(running)]:
                waiting.remove(trial)
                running[trial] = trial.start()
            for trial, process in list(running.items()):
                if process.poll() is None:
                    continue
                check_ended(trial, process.returncode)
                if trial.done:
                    del running[trial]
                    ended(trial)
                else:
                    running[trial] = trial.start()
            done = len(trials) - len(waiting) - len(running)
            words = [f"{trial}: {trial.last_words}" for trial in running]
            progress("; ".join([f"{done} of {len(trials)} trainings done", *words]))
            time.sleep(LOOK)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on where this one stopped") from None
    finally:
        stop(running.values())


def check_ended(trial: Trial, code: int) -> None:
    """Check that a command ended well."""
    if code:
        words = trial.last_words or f"exit status {code}"
        raise UserError(f"{trial} failed: {words}; {trial.log} has the rest")


def stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """End processes as a scheduler does, and wait for them."""
    ending = list(processes)
    for process in ending:
        process.terminate()
    for process in ending:
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
