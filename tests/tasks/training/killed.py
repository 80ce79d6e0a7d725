# SPDX-License-Identifier: Apache-2.0
"""Trainings that are killed at one of their writes, each in a fork of one process that has imported all.

``python -m tests.tasks.training.killed PHOTOS FOLDER HOW:EVENT ...`` prints one line of JSON a case.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slideformer.cli.main import main
from slideformer.tasks.classify.module import Classifier  # noqa: F401 - imported once, before all forks
from slideformer.tasks.training.fit import fit  # noqa: F401
from tests.conftest import QUICK

# Two epochs of one update.
SHORT = (*QUICK, "--trainer.max_epochs=2", "--data.batch_size=24", "--trainer.log_every_n_steps=1")
SHORT += ("--model.options={embed_dim: 8, depths: [1], num_heads: [1], window_size: [4], slide_stages: [0]}",)
WRITES = os.O_WRONLY | os.O_RDWR


def watch(folder: Path, act: Callable[[int, str, Any], None]) -> None:
    """Call ``act`` before every write and rename in a folder, with its number, its kind and its path."""
    count, main_thread = 0, threading.main_thread()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in ("open", "os.rename", "os.remove") or threading.current_thread() is not main_thread:
            return
        path = str(arguments[0])
        writes = event != "open" or (isinstance(arguments[2], int) and arguments[2] & WRITES)
        if writes and path.startswith(str(folder)) and not path.startswith(str(folder / "logs")):
            count += 1
            act(count, event, path)

    sys.addaudithook(hook)


def kill(signal_number: int = signal.SIGKILL, half: bool = False) -> Callable[[str, str], None]:
    """What kills a process at an event, perhaps when half of what is written is there."""

    def act(event: str, path: str) -> None:
        if half and event == "os.rename":
            os.truncate(path, os.path.getsize(path) // 2)
        elif half and event == "open" and path.endswith("metrics.csv") and os.path.exists(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.write(descriptor, b"0,0.5")
        os.kill(os.getpid(), signal_number)

    return act


def fill_disk(event: str, path: str) -> None:
    """The answer of a full disk."""
    raise OSError(errno.ENOSPC, "No space left on device")


ACTS = {"before": kill(), "half": kill(half=True), "terminated": kill(signal.SIGTERM), "full": fill_disk}


def in_a_fork(work: Callable[[], int], log: Path) -> int:
    """The exit code of a fork that does some work."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    code = 99
    try:
        for descriptor in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def train(run: Path, *words: str, event: int = 0, how: str = "before") -> int:
    """Train, and let what is to happen happen at an event; from it on, where the disk is full."""

    def act(count: int, kind: str, path: str) -> None:
        if count == event or (how == "full" and count > event and kind == "open"):
            ACTS[how](kind, path)

    if event:
        watch(run, act)
    return main(["train", *words])


def train_whole(photos: Path, run: Path) -> None:
    """Train without a kill, to compare with; note the writes of that in a file, one a line."""
    events: list[str] = []

    def note(count: int, kind: str, path: str) -> None:
        events.append(f"{kind} {Path(path).relative_to(run)}")

    def work() -> int:
        watch(run, note)
        code = main(["train", *SHORT, f"--data={photos}", f"--output={run}"])
        run.with_name("events").write_text("\n".join(events))
        return code

    log = run.with_suffix(".log")
    assert in_a_fork(work, log) == 0, log.read_text()


def outcome(run: Path) -> dict[str, Any]:
    """What a finished run leaves, to compare with that of another."""
    text = (run / "metrics.csv").read_text()
    rows = [
        {key: x for key, x in row.items() if key != "images_per_second"}
        for row in csv.DictReader(io.StringIO(text))
    ]
    weights = hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
    return {"rows": rows, "weights": weights, "left": sorted(path.name for path in run.rglob(".*"))}


def run_case(photos: Path, folder: Path, how: str, event: int) -> dict[str, Any]:
    """Kill a run at an event; then go on with it by ``--resume`` and, in a copy, by the command as it was."""
    run, log = folder / f"{how}{event}", folder / f"{how}{event}.log"
    copy = run.with_name(f"{run.name}copy")

    def words(run: Path) -> tuple[str, ...]:
        return (*SHORT, f"--data={photos}", f"--output={run}")

    died = in_a_fork(lambda: train(run, *words(run), event=event, how=how), log)
    if run.exists():
        shutil.copytree(run, copy)
    began, kept = (run / "config.yaml").exists(), (run / "checkpoints" / "last.ckpt").exists()
    result: dict[str, Any] = {"case": run.name, "died": died, "kept": kept, "log": log.read_text()}
    if began:
        result["resumed"] = in_a_fork(lambda: train(run, "--resume", str(run)), log)
        result["equal"] = result["resumed"] == 0 and outcome(run) == outcome(folder / "whole")
    result["again"] = in_a_fork(lambda: train(copy, *words(copy)), log)
    if not kept:
        result["again equal"] = result["again"] == 0 and outcome(copy) == outcome(folder / "whole")
    return result


if __name__ == "__main__":
    photos, folder = Path(sys.argv[1]), Path(sys.argv[2])
    train_whole(photos, folder / "whole")
    for how, event in (case.split(":") for case in sys.argv[3:]):
        print(json.dumps(run_case(photos, folder, how, int(event))), flush=True)
