# SPDX-License-Identifier: Apache-2.0
"""A study from its trainings to its figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import cast

import timm
import torch
from torch import Tensor

from slideformer.bench.accuracy import Accuracy, Outcome
from slideformer.bench.candidate import Candidate, Setting, count_gflop
from slideformer.bench.load import usable_cores
from slideformer.bench.measurement import Group, measure
from slideformer.bench.studies import DATA, MODEL, RECIPE, STUDIES, Arm, Study, planned
from slideformer.bench.trials import Trial, run_trials, without_result
from slideformer.console import print_line
from slideformer.errors import UserError
from slideformer.runs import open_run
from slideformer.tasks.classify.data import Augment, ClassificationData
from slideformer.tasks.training.batches import Batch
from slideformer.tasks.training.optimise import Optimise, build_optimiser
from slideformer.tasks.training.recipes import find_config, read_config


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
    earlier: Sequence[Outcome] = (),
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
        earlier: results of any machine; what they are of is not trained again.

    Raises:
        UserError: the data are not there, a folder holds something else, a training failed, or an earlier
            result is of none of these trainings.
    """
    study = STUDIES[name]
    data = data_of(study, root, images)
    data.prepare_data()  # raises before any training
    trials = planned(study, root, output, images=images, epochs=epochs, seeds=seeds)
    known = {x.digest: x for x in earlier}
    check_wanted(earlier, trials)
    todo = without_result(trials, known)
    left = sum(not trial.done for trial in todo)

    def ended(trial: Trial) -> None:
        nonlocal left
        left -= 1
        top1 = 100 * float(trial.figures["top1"])
        print_line(f"{trial}: {top1:.2f} % on the {study.split} split; {left} left")

    run_trials(todo, processes or len(usable_cores()), ended, setting.progress)
    return Accuracy(
        study.split,
        data.train_count or len(data.opened.open("train")),
        [known.get(trial.digest) or outcome(trial) for trial in trials],
        study.arms[0].name,
        None if study.host is None else study.host.name,
        time_steps(study, data, setting) if study.timed else None,
    )


def check_wanted(earlier: Sequence[Outcome], trials: Sequence[Trial]) -> None:
    """Check that all earlier results are of these trainings: a report has no place for others."""
    wanted = {trial.digest for trial in trials}
    lost = [f"{x.arm}, {x.epochs} epochs, seed {x.seed}" for x in earlier if x.digest not in wanted]
    if lost:
        raise UserError(
            f"the file of `json` must have results of these trainings only, got {len(lost)} of others, such "
            f"as {lost[0]}, which would be lost; name another file, or ask for its images, epochs and seeds"
        )


def data_of(study: Study, root: Path, images: int | None) -> ClassificationData:
    """The images of a study, as its recipe reads and augments them."""
    values = read_config("classify", find_config("classify", RECIPE))["data"]
    return ClassificationData(
        DATA,
        MODEL,
        root=str(root),
        val_fraction=study.held_out,
        train_images=images,
        **{name: values[name] for name in ("download", "image_size", "batch_size", "num_workers")},
        augment=Augment(**values["augment"]),
    )


def outcome(trial: Trial) -> Outcome:
    """The result of a training."""
    model = open_run(trial.folder).model
    count = sum(parameter.numel() for parameter in model.parameters())
    made_by = {name: trial.note[name] for name in ("commit", "torch", "processor")}
    top1 = trial.figures["top1"]
    return Outcome(trial.arm, trial.epochs, trial.seed, count, top1, digest=trial.digest, **made_by)


def time_steps(study: Study, data: ClassificationData, setting: Setting) -> Group:
    """Time an update of each arm by the recipe, reading included, alternating, on one thread."""
    with one_thread():
        candidates = [candidate(study, arm, data, setting) for arm in study.arms]
        return measure(candidates, setting, size=data.train_size[0])


def candidate(study: Study, arm: Arm, data: ClassificationData, setting: Setting) -> Candidate:
    """An arm's update of its weights, from images that are read to the optimiser's step."""
    torch.manual_seed(0)
    model = timm.create_model(MODEL, num_classes=data.num_classes, **{**study.shape, **arm.model}).train()
    values = read_config("classify", find_config("classify", RECIPE))["model"]
    optimiser = build_optimiser(model, Optimise(**values["optimise"]), data.batch_size, cpu=True, fused=True)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=values["smoothing"])
    batches = chain.from_iterable(repeat(data.train_dataloader()))

    def step() -> Sequence[Tensor]:
        batch: Batch = next(batches).check()
        cast("Tensor", loss(model(batch.images), batch.targets)).backward()
        optimiser.step()
        optimiser.zero_grad()
        return ()

    images = torch.zeros(1, 3, *data.train_size)
    gflop = data.batch_size * count_gflop(model.eval(), images, setting)
    model.train()
    return Candidate(arm.name, step, gflop, None, data.batch_size, None)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
