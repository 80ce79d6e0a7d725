# SPDX-License-Identifier: Apache-2.0
"""Whatever comes, a command ends soon, in one line, without a traceback, and leaves nothing half-written."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slideformer.errors import printable
from tests.hostile.families import FAMILIES, Case
from tests.hostile.world import build
from tests.tiers import fast

ROOT = Path(__file__).parents[2]
# Of the cases; another seed draws others: SLIDEFORMER_HOSTILE=SEED,COUNT.
SEED, COUNT = map(int, os.environ.get("SLIDEFORMER_HOSTILE", "1,300").split(","))
SECONDS = 60
MEBIBYTES = 4096


@pytest.fixture(scope="session")
def world(finished_run: Path, all_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Healthy inputs; not to be changed."""
    return build(tmp_path_factory.mktemp("hostile") / "", finished_run, all_photos)


@pytest.fixture(scope="session")
def server() -> Iterator[subprocess.Popen[str]]:
    """Runs commands in forks of itself."""
    source = os.pathsep.join((str(ROOT / "runtime" / "src"), str(ROOT)))
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.hostile.server"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.communicate(timeout=60)


def ask(server: subprocess.Popen[str], case: Case, folder: Path) -> dict[str, Any]:
    """Run a case; its exit code, output and memory."""
    assert server.stdin is not None
    assert server.stdout is not None
    request = {"program": case.program, "words": case.words, "folder": str(folder), "seconds": SECONDS}
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    answer: dict[str, Any] = json.loads(server.stdout.readline())
    texts = {name: Path(f"{folder}.{name}").read_bytes().decode("utf-8") for name in ("stdout", "stderr")}
    return answer | texts


def faults(case: Case, answer: dict[str, Any], folder: Path) -> Iterator[str]:
    """What a command did that none may do."""
    code, stdout, stderr = answer["code"], answer["stdout"], answer["stderr"]
    if code is None:
        yield f"it hangs: no end within {SECONDS} s"
    elif code not in (0, 2, 1 if case.words[:1] == ("check-data",) else 0):
        yield f"its exit code must be 0 or 2, got {code}"
    if "Traceback" in stdout + stderr:
        yield "it shows a traceback"
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    if code == 2 and (len(lines) != 1 or stderr.splitlines()[-1] != lines[0]):
        yield "it must end with one line that says what is wrong"
    if code == 0 and case.refused:
        yield "it must be refused"
    if code == 0 and "predict" in case.words[:1] and "nan" in stdout.lower().split():
        yield "an answer is not a number"
    if any(printable(c) != c and c not in "\n\t" for c in stdout + stderr):
        yield "a control character reaches the terminal"
    if answer["mebibytes"] > MEBIBYTES:
        yield f"it takes {answer['mebibytes']} MiB"
    left = [str(path) for path in folder.rglob(".*") if path.is_file() or path.name.endswith(".unfinished")]
    if left and code is not None:
        yield f"it leaves {left}"


@pytest.mark.parametrize("number", fast(range(COUNT), *range(min(40, COUNT))))
def test_hostile_input_ends_in_one_line(
    number: int, world: Path, server: subprocess.Popen[str], tmp_path: Path
) -> None:
    draw = random.Random(SEED * 1_000_003 + number)
    family = draw.choices(list(FAMILIES), list(FAMILIES.values()))[0]
    folder = tmp_path / "case"
    folder.mkdir()
    case = family(draw, world, folder)
    answer = ask(server, case, folder)
    found = list(faults(case, answer, folder))
    words = " ".join(map(repr, case.words))
    assert not found, (
        f"{family.__name__}: {case.program} {words}: {'; '.join(found)}\n{answer['stderr'][-3000:]}"
    )
