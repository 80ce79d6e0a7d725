# SPDX-License-Identifier: Apache-2.0
"""The studies of accuracy: their arms, and the options of each training."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slideformer.bench.trials import Trial

DATA, RECIPE, MODEL = "torch/fashion_mnist", "fashion_mnist", "slide_swin_nano"
# The training images that are held out, to choose by: 10,000.
HELD_OUT = 1 / 6
# Two blocks where attention is compared, since every second window is shifted; windows of Swin's side where
# the map has room for them.
SHAPE: Mapping[str, Any] = {"depths": [2, 2, 1, 1], "window_size": [7, 7, 4, 2]}
# The folder of the run that an arm starts from or learns from, in its options.
HOST = "{host}"


@dataclass(frozen=True)
class Arm:
    """One of the things that are compared.

    Attributes:
        name: as the table shows it.
        model: arguments of the model that differ.
        options: further words of its training; `HOST` in them stands for the run of the host.
        epochs: its own length; None for those of the study.
    """

    name: str
    model: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    epochs: int | None = None


@dataclass(frozen=True)
class Study:
    """A comparison.

    Attributes:
        help: what it is, in a line.
        arms: what is compared, with the first one.
        split: that top-1 is of, ``test`` or ``hold-out``.
        images: to train on, by default; None for all, of which none are held out.
        epochs: lengths, by default.
        seeds: how many, by default.
        host: the arm that others start from; None where they start from nothing.
        timed: whether the time of a training step is measured.
    """

    help: str
    arms: tuple[Arm, ...]
    split: str = "test"
    images: int | None = 20_000
    epochs: tuple[int, ...] = (10,)
    seeds: int = 5
    host: Arm | None = None
    timed: bool = False


PLAIN_HOST = Arm("shifted window 7 x 7", {"slide_stages": []})
SLIDE = Arm("slide 3 x 3, deformed")
# With the optimiser of the recipe `fine_tune`, which a training from weights takes by itself.
FROM_HOST = (
    *("--weights", f"host:{HOST}", "--model.optimise.name", "adamw"),
    *("--lr", "3.0e-4", "--model.optimise.min_lr", "1.0e-6"),
)

STUDIES = {
    "rates": Study(
        "learning rates, for the recipe: one model that slides and its plain host",
        tuple(
            Arm(f"{arm.name}, rate {rate}", arm.model, ("--lr", rate))
            for arm in (SLIDE, PLAIN_HOST)
            for rate in ("6.0e-3", "3.0e-3", "1.2e-2")
        ),
        split="hold-out",
        epochs=(4,),
        seeds=1,
    ),
    "ablation": Study(
        "patterns of local attention in the same model, and how the deformed shift begins",
        (
            SLIDE,
            Arm("slide 3 x 3, deformed from zero", {"shift_init": "zeros"}),
            Arm("slide 3 x 3, plain", {"deform": False}),
            PLAIN_HOST,
            Arm("neighborhood 7 x 7", {"local_attention": "neighborhood", "kernel_size": 7}),
        ),
        timed=True,
    ),
    "warm-start": Study(
        "a model that slides from nothing, from its trained plain host, and taught by it",
        (
            Arm("from nothing"),
            Arm("from the host's weights", options=FROM_HOST),
            Arm("from the host's weights, taught by it", options=(*FROM_HOST, "--model.teacher", HOST)),
        ),
        epochs=(1, 2, 5),
        seeds=3,
        host=replace(PLAIN_HOST, epochs=10),
    ),
    "recipe": Study(
        "the recipe fashion_mnist as it is, and shorter",
        (Arm(MODEL),),
        images=None,
        epochs=(6, 20),
        seeds=1,
    ),
}


def trials(
    study: Study, root: Path, output: Path, *, images: int | None, epochs: Sequence[int], seeds: int
) -> list[Trial]:
    """The trainings of a study, those of a host first, the arms of a seed one after the other.

    Args:
        study: what is compared.
        root: folder of the data.
        output: folder of the runs.
        images: to train on; None for all.
        epochs: lengths.
        seeds: how many.
    """
    found = list[Trial]()
    for seed in range(seeds):
        host = None
        if study.host is not None:
            host = trial(study, study.host, root, output, images, study.host.epochs or max(epochs), seed)
            found.append(host)
        found += [
            trial(study, arm, root, output, images, length, seed, host)
            for length in epochs
            for arm in study.arms
        ]
    return found


def trial(
    study: Study,
    arm: Arm,
    root: Path,
    output: Path,
    images: int | None,
    epochs: int,
    seed: int,
    host: Trial | None = None,
) -> Trial:
    """The training of an arm, and its evaluation."""
    shape = {**(SHAPE if images else {}), **arm.model}
    options = [word if host is None else word.replace(HOST, str(host.folder)) for word in arm.options]
    part = [str(HELD_OUT)] if images else []
    training = (
        *("--config", RECIPE, "--data.root", str(root), "--seed_everything", str(seed)),
        *(word for x in part for word in ("--data.val_fraction", x, "--data.train_images", str(images))),
        *("--epochs", str(epochs)),
        *(("--model.options", json.dumps(shape)) if shape else ()),
        *options,
    )
    evaluation = (
        *("--data", DATA, "--root", str(root), "--workers", "0"),
        *(word for x in part if study.split == "hold-out" for word in ("--val-fraction", x)),
    )
    name = re.sub(r"[^a-z0-9.]+", "-", arm.name)
    folder = output / f"{name}-epochs-{epochs}-seed-{seed}"
    waits = host if options != list(arm.options) else None
    return Trial(arm.name, epochs, seed, training, evaluation, folder, waits)
