# SPDX-License-Identifier: Apache-2.0
"""The weights that a training starts from: of a run, a file or timm, of the same model or its plain host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from slideformer.dense.features import Features, features_in
from slideformer.errors import UserError
from slideformer.models import WarmStart, read_authors, warm_start
from slideformer.models.hosts import TIMM_HOSTS
from slideformer.runs.folder import open_run
from slideformer.runs.run import Blueprint, Run

# The source that stands for the weights that timm publishes, and the beginning of a source that is a host's.
TIMM, HOST = "timm", "host:"


def start_from(source: str, model: nn.Module, blueprint: Blueprint) -> tuple[WarmStart, list[str]]:
    """Load the weights of a source into a new model, or into its backbone; see `warm_start`.

    Args:
        source: the folder of a finished run, a file of weights (safetensors, or a PyTorch checkpoint of plain
            tensors), or ``timm`` for those that timm publishes, which it fetches; after ``host:``, those of
            the plain host of the model or backbone.
        model: a classifier, detector or segmenter; frozen parts stay frozen.
        blueprint: how it was built.

    Returns:
        The report, tensor by tensor, and lines to print: what was taken, and where a backbone is used with
        another normalisation.

    Raises:
        UserError: the source is no such thing, or does not fit the model; nothing is loaded.
    """
    place = source.removeprefix(HOST)
    host, run = place != source, open_run(place) if Path(place).is_dir() else None
    if run is not None and not host and run.blueprint.backbone != blueprint.backbone:
        raise UserError(
            f"{place} must hold a {blueprint.backbone}, got a {run.blueprint.backbone}; choose that one, or "
            f"write {HOST}{place} if it is the plain host"
        )
    part, notes = model, list[str]()
    if blueprint.task != "classify" and (run is None or run.task != blueprint.task):
        features = features_in(model)[1]
        part, notes = features.model, list(other_normalisation(features, place, run))
    try:
        if run is not None:
            state = weights_of(run, whole=part is model)
        elif place == TIMM:
            state = published(blueprint, host)
        else:
            state = read_authors(place)
        report = warm_start(part, state)
    except UserError as error:
        raise UserError(f"{source} does not fit {blueprint.backbone}: {error}") from error
    return report, [f"{source}: {report}", *notes]


def weights_of(run: Run, *, whole: bool) -> Mapping[str, Tensor]:
    """The weights of a run: of its whole model, or of its backbone."""
    model = run.model if whole or run.task == "classify" else features_in(run.model)[1].model
    return model.state_dict()


def published(blueprint: Blueprint, host: bool) -> Mapping[str, Tensor]:
    """The weights that timm publishes, of a model or of its plain host."""
    name, options = blueprint.backbone, dict[str, Any]()
    if not host:
        arguments = blueprint.arguments
        options = dict(arguments if blueprint.task == "classify" else arguments.get("options") or {})
    elif name in TIMM_HOSTS:
        name = TIMM_HOSTS[name]
    else:
        raise UserError(
            f"timm must have a plain host of the model, as for {', '.join(TIMM_HOSTS)}, got {name}"
        )
    return published_model(name, **options).state_dict()


def published_model(name: str, **options: Any) -> nn.Module:
    """A model with the weights that timm publishes.

    Args:
        name: timm's.
        options: further arguments of the model.

    Raises:
        UserError: there are none, or they cannot be fetched.
    """
    try:
        return timm.create_model(name, pretrained=True, **options)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"timm must have weights of {name}, but {error}; give a run or a file instead"
        ) from error


def other_normalisation(features: Features, source: str, run: Run | None) -> Iterator[str]:
    """A line each for mean and spread (``std``), where a run's classifier was trained with others."""
    how = None if run is None else run.preprocessing
    if how is None:
        return
    for name, their, own in (("mean", how.mean, features.mean), ("std", how.std, features.std)):
        here = own.flatten().tolist()
        if [round(x, 4) for x in here] != [round(x, 4) for x in their]:
            yield f"{source} was trained with {name} {rounded(their)}, and is used with {rounded(here)}"


def rounded(numbers: Sequence[float]) -> str:
    """Numbers for a reader."""
    return ", ".join(f"{x:.3g}" for x in numbers)
