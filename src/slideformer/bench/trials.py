# SPDX-License-Identifier: Apache-2.0
"""Trainings to compare: each a run in a process of its own, taken up where an earlier call stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from slideformer.errors import UserError
from slideformer.files import read_text, write_text

# Seconds from one look at the processes to the next.
LOOK = 0.5


@dataclass(frozen=True)
class Trial:
    """A training and its evaluation, after the last epoch.

    Attributes:
        arm: what is trained.
        epochs: how long.
        seed: of everything random.
        training: words of the command line of ``slideformer train``, without the folder.
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
    def done(self) -> bool:
        """Whether it is trained and evaluated."""
        return self.figures.exists()

    @property
    def figures(self) -> Path:
        """The file of its evaluation."""
        return self.folder / "evaluation.json"

    @property
    def log(self) -> Path:
        """The file that has what its processes printed."""
        return self.folder / "log.txt"

    @property
    def last_words(self) -> str:
        """The last line that its processes printed."""
        lines = read_text(self.log).splitlines() if self.log.exists() else []
        return lines[-1] if lines else ""

    @property
    def command(self) -> list[str]:
        """The next command, of those that are not done."""
        if (self.folder / "model.safetensors").exists():
            return ["evaluate", str(self.folder), *self.evaluation]
        if (self.folder / "config.yaml").exists():
            return ["train", "--resume", str(self.folder)]
        return ["train", *self.training, "--output", str(self.folder)]

    def prepare(self) -> None:
        """Make the folder, with a note of what is trained there.

        Raises:
            UserError: it holds something else.
        """
        note = self.folder / "trial.json"
        words = [*self.training, *self.evaluation]
        if note.exists() and json.loads(read_text(note)) == words:
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            raise UserError(
                f"{self.folder} must be empty or hold this training, got another one; remove it, or choose "
                "another `output`"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(note, json.dumps(words))

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
