# SPDX-License-Identifier: Apache-2.0
"""Classifiers: their ``config.json``, in timm's format, and models by name with random weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.data import resolve_data_config
from torch import nn

from slideformer.errors import UserError, check_range
from slideformer.models.names import pretrained_cfg
from slideformer.runs.fields import CLASSES, NAMES, TABLE, TEXT, VAL_FRACTION, check_fields, optional
from slideformer.runs.preprocessing import Preprocessing, read_preprocessing
from slideformer.runs.run import Blueprint, Run

# Arguments of timm's factory, not of a model: a file must not set them.
NOT_ARGUMENTS = frozenset(inspect.signature(timm.create_model).parameters) | {"num_classes"}
FIELDS = {
    "architecture": TEXT,
    "num_classes": CLASSES,
    "pretrained_cfg": TABLE,
    "model_args": optional(TABLE, {}),
    "val_fraction": VAL_FRACTION,
}
LABELS = {"label_names": optional(NAMES, ())}


def classifier_run(
    model: nn.Module,
    *,
    class_names: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
    arguments: Mapping[str, Any] | None = None,
    val_fraction: float | None = None,
) -> Run:
    """The run of a classifier of timm's registry, to be saved, exported or asked.

    Args:
        model: from ``timm.create_model``, not merged.
        class_names: name of each class; empty if unknown.
        preprocessing: how an image becomes its input; the model's own where None.
        arguments: with which ``timm.create_model`` built it, besides the name; our models know theirs.
        val_fraction: of each class of the folder that was held out; None where it was not so.

    Raises:
        ValueError: the model was not built by name, or has another number of classes.
    """
    facts = getattr(model, "pretrained_cfg", None)
    if facts is None:
        raise ValueError(
            "the model must come from timm.create_model(name), which knows how to build it again"
        )
    arguments = getattr(model, "arguments", None) if arguments is None else arguments
    if arguments is None:
        raise ValueError(
            "timm's own models do not keep the arguments they were built with; pass arguments=, {} for none"
        )
    how = read_preprocessing(facts, "the model's configuration") if preprocessing is None else preprocessing
    classes = int(cast("Any", model).num_classes)
    if class_names and len(class_names) != classes:
        raise ValueError(f"class_names must name all {classes} classes, got {len(class_names)}")
    blueprint = Blueprint("classify", facts["architecture"], classes, arguments=arguments)
    return Run(
        model=model,
        blueprint=blueprint,
        class_names=tuple(class_names),
        preprocessing=how,
        val_fraction=val_fraction,
    )


def write(run: Run) -> dict[str, Any]:
    """The content of ``config.json``."""
    model: Any = run.model
    how = run.preprocessing
    assert how is not None  # every classifier has it
    read_preprocessing(how.values(), "the model's preprocessing")  # raises for what could not be read again
    facts = {k: x for k, x in model.pretrained_cfg.items() if x is not None and not is_source(k)}
    arguments = {k: x for k, x in run.blueprint.arguments.items() if k not in NOT_ARGUMENTS}
    pool = getattr(model, "global_pool", None)
    # Some of timm's models keep the pooling as a module, not as the word that their constructor takes.
    pooling = {"global_pool": pool} if isinstance(pool, str) else {}
    classes = run.blueprint.num_classes
    content = {
        "architecture": facts.pop("architecture"),
        "num_classes": classes,
        "num_features": model.num_features,
        **pooling,
        "model_args": {**arguments, **pooling},
        "pretrained_cfg": {**facts, **how.values(), "num_classes": classes},
    }
    if run.class_names:
        # At the root is where timm writes them and transformers reads them.
        content["label_names"] = content["pretrained_cfg"]["label_names"] = list(run.class_names)
    if run.val_fraction is not None:
        content["val_fraction"] = run.val_fraction
    return content


def is_source(key: str) -> bool:
    """Whether an entry of timm's configuration says where weights came from."""
    return key in ("url", "file", "state_dict", "source", "tag", "label_names") or key.startswith("hf_hub")


def read(content: Mapping[str, Any], source: Path) -> Run:
    """Everything that ``config.json`` says; the model is still an empty module."""
    config = check_fields(content, FIELDS, source)
    facts, classes = config["pretrained_cfg"], config["num_classes"]
    inner, root = (check_fields(part, LABELS, source)["label_names"] for part in (facts, content))
    # As in timm: transformers writes the names of new classes at the root alone.
    labels = root if root else inner
    if labels and len(labels) != classes:
        raise UserError(
            f"{source} must name all {classes} classes, got {len(labels)} label_names; correct or remove them"
        )
    how = read_preprocessing(facts, source)
    blueprint = Blueprint("classify", config["architecture"], classes, arguments=config["model_args"])
    return Run(
        model=nn.Module(),
        blueprint=blueprint,
        class_names=tuple(labels),
        preprocessing=how,
        val_fraction=config["val_fraction"],
    )


def build(blueprint: Blueprint, source: Path) -> nn.Module:
    """The model of a blueprint, with new weights."""
    name = blueprint.backbone
    if not timm.is_model(name):
        raise UserError(f"{source} names the model {name!r}, which is not known here")
    forbidden = sorted(NOT_ARGUMENTS.intersection(blueprint.arguments))
    if forbidden:
        raise UserError(f"{source} sets {', '.join(forbidden)}, which a saved model must not; remove it")
    try:
        return timm.create_model(name, **{**blueprint.arguments, "num_classes": blueprint.num_classes})
    except Exception as error:  # constructors of many authors, given values that nobody has checked
        raise UserError(
            f"{source} does not describe a valid {name} ({error}); train the model again"
        ) from error


def named_run(name: str, num_classes: int | None = None) -> Run:
    """A classifier by its name, with random weights, always the same.

    Args:
        name: of timm's registry, ours or another's.
        num_classes: number of classes; the model's own where None.

    Raises:
        UserError: there is no such model.
    """
    check_range("`num_classes`", num_classes, 1)
    if "/" in name:
        raise UserError(f"{name} must be the folder of a finished run, but does not exist; check the path")
    how = read_preprocessing(resolve_data_config({}, pretrained_cfg=pretrained_cfg(name)), name)
    torch.manual_seed(0)
    classes: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    model = timm.create_model(name, **classes).eval()
    arguments = getattr(model, "arguments", {})
    return replace(classifier_run(model, preprocessing=how, arguments=arguments), random=True)
