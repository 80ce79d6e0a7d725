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
        options: further words of its training; the folder of the host's run comes in place of `HOST`.
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
        arms: what is compared, with the first one.
        split: on which top-1 is measured, ``test`` or ``hold-out``.
        shape: arguments of the model of all arms.
        held_out: the part of the training images that is held out; None for none.
        images: how many of the others to train on, by default; None for all.
        epochs: lengths of the trainings, by default.
        seeds: how many, by default.
        host: the arm that others start from; None where they start from nothing.
        timed: whether the time of an epoch is measured.
    """

    arms: tuple[Arm, ...]
    split: str = "test"
    shape: Mapping[str, Any] = field(default_factory=lambda: SHAPE)
    held_out: float | None = HELD_OUT
    images: int | None = 20_000
    epochs: tuple[int, ...] = (10,)
    seeds: int = 5
    host: Arm | None = None
    timed: bool = False


PLAIN_HOST = Arm("shifted window 7 x 7", {"slide_stages": []})
SLIDE = Arm("slide 3 x 3, deformed")
FROM_HOST = ("--weights", f"host:{HOST}")

STUDIES = {
    "rates": Study(
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
        (
            SLIDE,
            Arm("slide 3 x 3, deformed from zero", {"shift_init": "zeros"}),
            Arm("slide 3 x 3, plain", {"deform": False}),
            PLAIN_HOST,
            Arm("neighborhood 7 x 7", {"local_attention": "neighborhood", "kernel_size": 7}),
        ),
        timed=True,
    ),
    # The shift of a model that starts from a host begins at zero; so does that of one from nothing.
    "warm-start": Study(
        (
            Arm("from nothing", {"shift_init": "zeros"}),
            Arm("from the host's weights", options=FROM_HOST),
            Arm("from the host's weights, taught by it", options=(*FROM_HOST, "--model.teacher", HOST)),
        ),
        epochs=(1, 2, 5),
        seeds=3,
        host=replace(PLAIN_HOST, epochs=10),
    ),
    "recipe": Study((Arm(MODEL),), shape={}, held_out=None, images=None, epochs=(6, 20), seeds=1),
}


def planned(
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
            length = study.host.epochs or max(epochs)
            host = training(study, study.host, root, output, images, length, seed)
            found.append(host)
        found += [
            training(study, arm, root, output, images, length, seed, host)
            for length in dict.fromkeys(epochs)
            for arm in study.arms
        ]
    return found


def training(
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
    model = {**study.shape, **arm.model}
    options = [word if host is None else word.replace(HOST, str(host.folder)) for word in arm.options]
    words = (
        *("--config", RECIPE, "--data.root", str(root), "--seed_everything", str(seed)),
        *option("--data.val_fraction", study.held_out),
        *option("--data.train_images", images),
        *("--epochs", str(epochs)),
        *option("--model.options", json.dumps(model) if model else None),
        *options,
    )
    evaluation = (
        *("--data", DATA, "--root", str(root), "--workers", "0"),
        *option("--val-fraction", study.held_out if study.split == "hold-out" else None),
    )
    name = re.sub(r"[^a-z0-9.]+", "-", arm.name)
    folder = output / f"{name}-epochs-{epochs}-seed-{seed}"
    return Trial(
        arm.name, epochs, seed, words, evaluation, folder, host if arm.options != tuple(options) else None
    )


def option(name: str, value: object) -> tuple[str, ...]:
    """The words of an option; none without a value."""
    return () if value is None else (name, str(value))
