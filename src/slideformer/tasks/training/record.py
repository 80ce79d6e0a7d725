# SPDX-License-Identifier: Apache-2.0
"""The record of a training that has ended, for the card of its run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Any, cast

import lightning
import timm
import torch
from torch.utils.data import IterableDataset

from slideformer.models.hosts import TIMM_HOSTS
from slideformer.models.names import pretrained_cfg
from slideformer.runs import Run
from slideformer.runs.warm_start import HOST, TIMM
from slideformer.tasks.model_card import Record, known_figures, shareable
from slideformer.tasks.training.command_line import TrainCLI
from slideformer.version import __version__

# The main values of a recipe, by their places in a configuration; a task has some of them.
RECIPE = {
    "optimiser": "model.optimise.name",
    "learning rate": "model.optimise.lr",
    "images an update that the rate is for": "model.optimise.base_batch",
    "schedule": "model.optimise.schedule",
    "weight decay": "model.optimise.weight_decay",
    "layer decay": "model.optimise.layer_decay",
    "stochastic depth": "model.drop_path_rate",
    "frozen stages": "model.frozen_stages",
    "label smoothing": "model.smoothing",
    "mixup": "model.mix.mixup",
    "cutmix": "model.mix.cutmix",
    "automatic augmentation": "data.augment.auto_augment",
    "decay of the moving average": "model.ema_decay",
    "precision": "trainer.precision",
    "seed": "seed_everything",
}
# The beginnings of sources of timm that are the Hub's, and the form of a name there.
HUB, HUB_NAME = ("hfds/", "hfids/"), re.compile(r"[\w.-]+(/[\w.-]+)?")


def record_of(
    cli: TrainCLI, config: Mapping[str, Any], run: Run, epoch: int, score: float | None, command: str
) -> Record:
    """The record of a training.

    Args:
        cli: of the training, at its end.
        config: the resolved configuration, as plain values.
        run: as it was saved.
        epoch: whose weights it has, from 1.
        score: by which that epoch was chosen; None where it is the last one.
        command: that makes it again.
    """
    learner, data, trainer = cli.model, cli.datamodule, cli.trainer
    source, weights, teacher = data.source, config["model"]["weights"], config["model"].get("teacher")
    rows = cli.metrics.read()
    speeds = [x for row in rows if (x := finite(row.get("images_per_second"))) is not None]
    return Record(
        epoch=epoch,
        epochs=config["trainer"]["max_epochs"],
        chosen_by="" if score is None else learner.score_words,
        candidates=sum(finite(row.get(learner.score)) is not None for row in rows),
        average=learner.ema is not None,
        figures={} if score is None else figures_at(rows, learner.score, score),
        data=shareable(source),
        dataset=dataset_of(source),
        train_images=count_of(cast("Any", trainer.train_dataloader).dataset),
        val_images=count_of(data.val_images()),
        parameters=sum(x.numel() for x in run.model.parameters()),
        recipe=recipe_of(config, learner.images_per_update(), data.train_size),
        weights=weights_in_words(weights, run.blueprint.backbone),
        base_model=hub_name_of(weights, run.blueprint.backbone),
        teacher=teacher_in_words(teacher),
        images_per_second=median(speeds) if speeds else None,
        device=device_of(trainer.strategy.root_device, trainer.world_size),
        versions={
            "slideformer": __version__,
            "timm": timm.__version__,
            "torch": str(torch.__version__),
            "lightning": lightning.__version__,
        },
        command=command,
    )


def finite(text: object) -> float | None:
    """The number in an entry of ``metrics.csv``; None for none, as in a file that was edited."""
    try:
        x = float(str(text))
    except ValueError:
        return None
    return x if isfinite(x) else None


def figures_at(rows: list[dict[str, Any]], name: str, score: float) -> dict[str, float]:
    """The figures of the first evaluation with a score.

    Args:
        rows: of ``metrics.csv``.
        name: of the score.
        score: value of that figure; it is all there is where the rows lack it.
    """
    found = next((row for row in rows if finite(row.get(name)) == score), {})
    values = {str(column).removeprefix("val/"): finite(x) for column, x in found.items()}
    return known_figures({**values, name.removeprefix("val/"): score})


def recipe_of(config: Mapping[str, Any], batch: int, sides: tuple[int, int]) -> dict[str, str]:
    """The main values of a configuration, in words, by name; what is off is left out.

    Args:
        config: the resolved one.
        batch: images an update.
        sides: height and width in pixels of an image to train on.
    """
    values = {name: value_at(config, place) for name, place in RECIPE.items()}
    known = {name: str(x) for name, x in values.items() if x not in (None, 0) or name == "seed"}
    return {"images an update": str(batch), "height x width, pixels": f"{sides[0]} x {sides[1]}", **known}


def value_at(config: Mapping[str, Any], place: str) -> Any:
    """The value at a place such as ``model.optimise.lr``; None where there is none."""
    value: Any = config
    for key in place.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def count_of(images: Any) -> int | None:
    """How many images a data set has; None for a stream, which may not know."""
    return None if isinstance(images, IterableDataset) else len(images)


def dataset_of(source: str) -> str:
    """The Hub's name of the data of a source; empty where they have none."""
    prefix = next((prefix for prefix in HUB if source.lower().startswith(prefix)), None)
    name = "" if prefix is None else source[len(prefix) :]
    return name if HUB_NAME.fullmatch(name) else ""


def hub_name_of(weights: str | None, backbone: str) -> str:
    """The Hub's name of weights that timm publishes; empty for others.

    Args:
        weights: the source of the weights.
        backbone: that they were loaded into.
    """
    if weights is None or weights.removeprefix(HOST) != TIMM:
        return ""
    return published_name(TIMM_HOSTS[backbone] if weights.startswith(HOST) else backbone)


def published_name(name: str) -> str:
    """The Hub's name of the weights that timm publishes of a model; empty where it has none there."""
    return str(pretrained_cfg(name).get("hf_hub_id", ""))


def weights_in_words(weights: str | None, backbone: str) -> str:
    """A source of weights in words."""
    if weights is None:
        return "random"
    name = hub_name_of(weights, backbone)
    host = ", the plain host" if weights.startswith(HOST) else ""
    return f"{name or shareable(weights.removeprefix(HOST))}{host}"


def teacher_in_words(teacher: str | None) -> str:
    """A teacher in words; empty where there is none."""
    if teacher is None:
        return ""
    if Path(teacher).is_dir() or not timm.is_model(teacher):
        return shareable(teacher)
    return published_name(teacher) or teacher


def device_of(device: torch.device, count: int) -> str:
    """Where a training computed, in words."""
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"{count} x CPU with {threads} thread{'' if threads == 1 else 's'}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{count} x {name}"
