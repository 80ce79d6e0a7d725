# SPDX-License-Identifier: Apache-2.0
"""A study from its trainings to its figures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import timm
import torch

from slideformer.bench.accuracy import Accuracy, Outcome
from slideformer.bench.candidate import Setting
from slideformer.bench.measurement import Group, measure
from slideformer.bench.model import model_candidate
from slideformer.bench.studies import DATA, HELD_OUT, MODEL, SHAPE, STUDIES, Study, trials
from slideformer.bench.trials import Trial, run_trials
from slideformer.console import print_line
from slideformer.files import read_text
from slideformer.runs import open_run
from slideformer.tasks.classify.data import ClassificationData

# Side of the images in pixels, and images an update: those of the recipe.
SIDE, BATCH = 28, 128
CLASSES = 10


def measure_study(
    name: str,
    root: Path,
    output: Path,
    *,
    images: int | None,
    epochs: Sequence[int],
    seeds: int,
    processes: int | None,
    setting: Setting,
) -> Accuracy:
    """Train and evaluate all arms of a study; what an earlier call has done is left as it is.

    Args:
        name: of the study.
        root: folder of the data.
        output: folder of the runs.
        images: to train on; None for all.
        epochs: lengths.
        seeds: how many.
        processes: trainings at a time; None for one a core.
        setting: rounds in which training steps are timed.

    Raises:
        UserError: the data are not there, a folder holds something else, or a training failed.
    """
    study = STUDIES[name]
    part = HELD_OUT if images else None
    data = ClassificationData(
        DATA, MODEL, root=str(root), train_images=images, val_fraction=part, download=True
    )
    data.prepare_data()  # raises before any training
    count = len(cast("Sized", data.train_images()))
    todo = trials(study, root, output, images=images, epochs=epochs, seeds=seeds)
    left = sum(not trial.done for trial in todo)

    def ended(trial: Trial) -> None:
        nonlocal left
        left -= 1
        print_line(f"{trial}: {100 * top1_of(trial):.2f} % on the {study.split} split; {left} trainings left")

    run_trials(todo, processes or os.cpu_count() or 1, ended, setting.progress)
    return Accuracy(
        name,
        study.split,
        count,
        [outcome(trial) for trial in todo],
        study.arms[0].name,
        None if study.host is None else study.host.name,
        time_steps(study, setting) if study.timed else None,
    )


def top1_of(trial: Trial) -> float:
    """The share of images that a trained model classifies rightly."""
    return float(json.loads(read_text(trial.figures))["top1"])


def outcome(trial: Trial) -> Outcome:
    """The result of a training."""
    model = open_run(trial.folder).model
    count = sum(parameter.numel() for parameter in model.parameters())
    return Outcome(trial.arm, trial.epochs, trial.seed, count, top1_of(trial))


def time_steps(study: Study, setting: Setting) -> Group:
    """Time a training step of each arm, alternating, on one thread as the trainings ran."""
    images = torch.randn(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    candidates = []
    for arm in study.arms:
        model = timm.create_model(MODEL, num_classes=CLASSES, **{**SHAPE, **arm.model})
        candidates.append(model_candidate(arm.name, model, images, setting))
    with one_thread():
        return measure(candidates, setting, size=SIDE)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
