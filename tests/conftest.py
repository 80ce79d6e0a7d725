# SPDX-License-Identifier: Apache-2.0
"""Small labelled pictures, and a short training on them."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.shared import made_once

# Without a GPU Triton's kernels are tested under its interpreter, which must be known before Triton is
# imported, by whichever test comes first in this process.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# The runtime is tested from its source, installed or not.
sys.path.insert(0, str(Path(__file__).parents[1] / "runtime" / "src"))

CLASSES = ("kiwi", "lemon", "ölbaum und Rand")
COLOURS = {"kiwi": (60, 160, 60), "lemon": (230, 210, 50), "ölbaum und Rand": (70, 70, 150)}
COUNTS = {"train": 8, "val": 3}
# A training of seconds: small images, nothing that is random between two runs of one seed.
QUICK = (
    "--model=slide_swin_nano",
    "--data.batch_size=8",
    "--data.num_workers=0",
    "--model.optimise.warmup_epochs=1",
    "--trainer.max_epochs=3",
    "--trainer.accelerator=cpu",
    "--trainer.num_sanity_val_steps=0",
)


def pytest_collection_finish() -> None:
    """Keep the thousands of collected tests out of the search for garbage, and search less often.

    Exports make millions of objects, and would spend half of their time in that search.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@pytest.fixture(scope="session")
def all_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs of noise around one colour a class, under train/ and val/."""
    return made_once(tmp_path_factory, "photos", write_photos)


@pytest.fixture
def photos(all_photos: Path, tmp_path: Path) -> Path:
    """The photos, to be changed at will."""
    return Path(shutil.copytree(all_photos, tmp_path / "photos"))


@pytest.fixture(scope="session")
def finished_run(all_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; not to be changed."""
    made = made_once(tmp_path_factory, "finished", lambda folder: train(all_photos, folder / "run"))
    return made / "run"


@pytest.fixture(autouse=True)
def _signals_and_seed_as_before() -> Iterator[None]:
    """A training sets handlers and a seed for its process, which is the tests' here."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    environment = dict(os.environ)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(environment)


def write_photos(root: Path) -> None:
    """Write JPEGs of noise around one colour a class, under train/ and val/."""
    random = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(random.normal(COLOURS[name], 30, (40, 48, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.jpg")


def train(photos: Path, folder: Path, *words: str) -> Path:
    """Train in this process; the folder of the run."""
    # Slow to import, of no use to most tests.
    from slideformer.tasks.table import CLASSIFY
    from slideformer.tasks.training.fit import fit

    return fit(CLASSIFY, [*QUICK, f"--data={photos}", f"--output={folder}", *words]).path


def command(*words: object) -> subprocess.Popen[str]:
    """Start the command line in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "slideformer", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # A shell's background job, as a test run may be one, ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen[str], seconds: float = 300) -> tuple[str, str]:
    """Wait for a process; what it printed. One that does not end in time is killed and fails the test."""
    try:
        return process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        _, err = process.communicate(timeout=60)
        pytest.fail(f"no end within {seconds} s; its last words: {err[-2000:]}")
