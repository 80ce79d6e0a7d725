# SPDX-License-Identifier: Apache-2.0
"""Loading a backbone's weights from a trained classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from slideformer.dense.features import Features
from slideformer.errors import UserError
from slideformer.models.convert import read_authors
from slideformer.models.convert.state import listed, load_all_or_none
from slideformer.runs.folder import open_run, task_of

# The source that stands for the weights that timm publishes.
TIMM = "timm"


def load_backbone(features: Features, source: str | Path) -> list[str]:
    """Load the weights of a trained classifier into a backbone, all of them or none.

    Args:
        features: the backbone; frozen parts stay frozen.
        source: the folder of a finished classification run, a file of weights with the model's own names
            (safetensors, or a PyTorch checkpoint of plain tensors), or ``"timm"`` for those that timm
            publishes, which it fetches.

    Returns:
        Lines to report: weights that were not used, and a different normalisation.

    Raises:
        UserError: the source is no such thing, or does not fit the backbone.
    """
    state, notes = read_source(features, source)
    own = features.model.state_dict()
    spare = [name for name in state if name not in own]
    foreign = set(spare) - set(names_with_classifier(features)) if spare else set()
    used = {name: x for name, x in state.items() if name in own or name in foreign}
    try:
        load_all_or_none(features.model, used)
    except UserError as error:
        raise UserError(f"{source} does not fit {features.backbone}: {error}") from error
    return [f"not used of {source}: {listed(spare)}", *notes] if spare else notes


def read_source(features: Features, source: str | Path) -> tuple[Mapping[str, Tensor], list[str]]:
    """Read the weights of a source, and what to report about it."""
    if source == TIMM:
        return published(features), []
    if not Path(source).is_dir():
        return read_authors(source), []
    if task_of(source) != "classify":
        raise UserError(f"{source} must be a classification run, got one of the task {task_of(source)!r}")
    run = open_run(source)
    if run.blueprint.backbone != features.backbone:
        raise UserError(
            f"{source} must hold a {features.backbone}, got a {run.blueprint.backbone}; choose that backbone"
        )
    how, notes = run.preprocessing, []
    assert how is not None  # every classifier has it
    for name, their, own in (("mean", how.mean, features.mean), ("std", how.std, features.std)):
        here = own.flatten().tolist()
        if [round(x, 4) for x in here] != [round(x, 4) for x in their]:
            notes.append(
                f"{source} was trained with {name} {rounded(their)}, and is used with {rounded(here)}"
            )
    return run.model.state_dict(), notes


def rounded(numbers: Sequence[float]) -> str:
    """Numbers for a reader."""
    return ", ".join(f"{x:.3g}" for x in numbers)


def published(features: Features) -> Mapping[str, Tensor]:
    """The weights that timm publishes of a backbone."""
    try:
        model = timm.create_model(features.backbone, pretrained=True, **features.arguments)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"timm must have weights of {features.backbone}, but {error}; give a run or a file instead"
        ) from error
    return model.state_dict()


def names_with_classifier(features: Features) -> list[str]:
    """Names of the weights that the backbone would have as a classifier."""
    options: dict[str, Any] = dict(features.arguments)
    with torch.device("meta"):
        return list(timm.create_model(features.backbone, num_classes=1, **options).state_dict())
