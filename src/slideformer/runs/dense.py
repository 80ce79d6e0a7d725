# SPDX-License-Identifier: Apache-2.0
"""The ``config.json`` of a detector or segmenter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from slideformer.dense.detector import create_detector
from slideformer.dense.detector_options import LONGEST_RESIZED
from slideformer.dense.segmenter import create_segmenter
from slideformer.errors import UserError
from slideformer.runs.classifier import NOT_ARGUMENTS
from slideformer.runs.fields import (
    CATEGORY_IDS,
    MOST_CLASSES,
    NAMES,
    TABLE,
    TEXT,
    check_fields,
    integer,
    optional,
    word,
)
from slideformer.runs.run import Blueprint, Run

BUILDERS: dict[str, Callable[..., nn.Module]] = {"detect": create_detector, "segment": create_segmenter}
FIELDS = {
    "arguments": TABLE,
    "category_ids": CATEGORY_IDS,
    "task": word(*BUILDERS),
    "head": TEXT,
    "backbone": TEXT,
    "num_classes": integer(1, MOST_CLASSES),
    "label_names": NAMES,
    "extra": optional(TABLE, {}),
}
EXTRA = {
    "short_side": optional(integer(1, LONGEST_RESIZED)),
    "crop_size": optional(integer(1, MOST_CLASSES)),
    "orientation": optional(word("upright", "stored"), "upright"),
}


def write(run: Run) -> dict[str, Any]:
    """The content of ``config.json``."""
    if fault := fault_of(run):
        raise ValueError(fault)
    extra = {name: getattr(run, name) for name in EXTRA}
    return {
        "task": run.task,
        "head": run.blueprint.head,
        "backbone": run.blueprint.backbone,
        "num_classes": run.blueprint.num_classes,
        "arguments": dict(run.blueprint.arguments),
        "label_names": list(run.class_names),
        "category_ids": None if run.category_ids is None else list(run.category_ids),
        "extra": {name: x for name, x in extra.items() if x not in (None, "upright")},
    }


def read(content: Mapping[str, Any], source: Path) -> Run:
    """Everything that ``config.json`` says; the model is still an empty module."""
    values = check_fields(content, FIELDS, source)
    ids = values["category_ids"]
    run = Run(
        model=nn.Module(),
        blueprint=Blueprint(
            values["task"], values["backbone"], values["num_classes"], values["head"], values["arguments"]
        ),
        class_names=tuple(values["label_names"]),
        category_ids=None if ids is None else tuple(ids),
        **check_fields(values["extra"], EXTRA, source),
    )
    # Arguments of timm's factory must come from a person: some name other files to be read.
    options = run.blueprint.arguments.get("options")
    forbidden = sorted(NOT_ARGUMENTS.intersection(options if isinstance(options, Mapping) else ()))
    if forbidden:
        raise UserError(f"{source} sets {', '.join(forbidden)}, which a saved model must not; remove it")
    if fault := fault_of(run):
        raise UserError(f"{source}: {fault}")
    return run


def build(blueprint: Blueprint, source: Path) -> nn.Module:
    """The model of a blueprint, with new weights."""
    create = BUILDERS[blueprint.task]
    try:
        return create(blueprint.head, blueprint.backbone, blueprint.num_classes, **blueprint.arguments)
    except Exception as error:  # parts of many authors, given values that nobody has checked
        raise UserError(
            f"{source} does not describe a model that can be built ({error}); train the model again"
        ) from error


def fault_of(run: Run) -> str:
    """Describe a mismatch of names or numbers of classes in a sentence; empty if there is none."""
    classes = run.blueprint.num_classes
    if run.class_names and len(run.class_names) != classes:
        return f"label_names must name all {classes} classes, got {len(run.class_names)}"
    ids = run.category_ids
    if ids is not None and (len(ids) != classes or len(set(ids)) != classes):
        return f"category_ids must be {classes} different numbers, one a class, got {list(ids)}"
    return ""
