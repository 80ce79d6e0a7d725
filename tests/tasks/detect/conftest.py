# SPDX-License-Identifier: Apache-2.0
"""A few small scenes, and a short training on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from slideformer.tasks.scenes.generate import generate
from slideformer.tasks.table import DETECT
from slideformer.tasks.training.fit import fit
from tests.shared import made_once

# A training of seconds.
QUICK = (
    "--backbone=slide_swin_nano",
    "--model.head={fpn_channels: 8, head_channels: 16, mask_channels: 8, min_size: 64, max_size: 64, "
    "proposals_training: 20, proposals: 10, rpn_samples: 16, box_samples: 16, score_threshold: 0.0}",
    "--model.drop_path_rate=0",
    "--model.optimise.warmup_epochs=1",
    "--data.augment={sides: [64], longest_side: 64, crop_probability: 0}",
    "--data.num_workers=0",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
    "--trainer.num_sanity_val_steps=0",
)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scenes to train on, three held out; not to be changed."""
    return (
        made_once(tmp_path_factory, "scenes", lambda f: generate(f / "set", train=6, val=3, size=64)) / "set"
    )


@pytest.fixture(scope="session")
def detection_run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; not to be changed."""
    return made_once(tmp_path_factory, "detection", lambda f: train(scenes, f / "run")) / "run"


def train(scenes: Path, folder: Path, *words: str) -> Path:
    """Train in this process; the folder of the run."""
    return fit(DETECT, [*QUICK, f"--data={scenes}", f"--output={folder}", *words]).path
