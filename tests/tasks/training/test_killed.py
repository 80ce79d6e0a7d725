# SPDX-License-Identifier: Apache-2.0
"""A run that is killed at any of its writes goes on by ``--resume``, or starts again by the same command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Around the writes that decide: how, and before which write of a training of two epochs. All of them:
# ``python -m tests.tasks.training.killed PHOTOS FOLDER {half,full,terminated}:{1..35}``.
CASES = (
    *("half:3", "half:7", "half:9", "half:11", "half:17", "half:18", "half:19", "half:20", "half:24"),
    *("half:28", "half:30", "half:32", "half:34"),
    *("full:5", "full:10", "full:18", "full:25", "full:31"),
    *("terminated:18", "terminated:26", "terminated:33"),
)
EVENTS = {
    3: "open .lock",
    7: "os.rename .config.yaml",
    9: "os.rename .metrics.csv",
    11: "os.rename .first_batch.png",
    17: "os.rename checkpoints",
    18: "open checkpoints/.last.ckpt",
    20: "open metrics.csv",
    28: "os.rename .model",
    30: "os.rename .config",
    32: "os.rename .curves.png",
    34: "os.rename .predictions.png",
}


@pytest.mark.timeout(1200)
@pytest.mark.slow
@pytest.mark.parametrize("cases", [CASES[:2], CASES[2:]], ids=["two", "others"])
def test_a_run_that_is_killed_at_a_write_is_not_lost(
    cases: tuple[str, ...], all_photos: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "tests.tasks.training.killed", all_photos, tmp_path, *cases]
    # No threads, which do not outlive a fork.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, words)),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        cwd=ROOT,
        timeout=1100,
    )
    assert done.returncode == 0, done.stderr
    events = (tmp_path / "events").read_text().splitlines()
    assert {number: events[number - 1].startswith(text) for number, text in EVENTS.items()} == dict.fromkeys(
        EVENTS, True
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(cases)
    for result in results:
        log = result.pop("log")
        assert "Traceback" not in log, log
        # A run with a finished epoch is not trained over; one without starts again.
        assert result["again"] == (2 if result["kept"] else 0), log
        assert result.get("equal", True), log
        assert result.get("again equal", True), log
