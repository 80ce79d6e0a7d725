# SPDX-License-Identifier: Apache-2.0
"""A trained detector or segmenter as a folder: ``config.json`` and ``model.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from slideformer.errors import UserError
from slideformer.files import whole, write_text
from slideformer.models.dense.blueprint import Blueprint
from slideformer.models.fields import (
    CATEGORY_IDS,
    MOST_CLASSES,
    NAMES,
    TABLE,
    TEXT,
    check_fields,
    integer,
    optional,
    read_object,
    word,
)
from slideformer.models.merge import is_merged
from slideformer.models.preprocessing import LONGEST_RESIZED
from slideformer.models.pretrained import CONFIG, NOT_ARGUMENTS, WEIGHTS
from slideformer.models.weights import load_built

CLASSIFY = "classify"
# Module and function that build the models of a task, imported when one is wanted.
BUILDERS = {
    "detect": ("slideformer.models.dense.detector", "create_detector"),
    "segment": ("slideformer.models.dense.segmenter", "create_segmenter"),
}

# What ``config.json`` says, and of what was saved with the model the part that is used here.
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
EXTRA = {"short_side": optional(integer(1, LONGEST_RESIZED))}


@dataclass(frozen=True)
class DenseInfo:
    """What a folder tells beside the weights.

    Attributes:
        blueprint: of what the model was built.
        label_names: name of each class, in the order of labels or logits; empty if unknown.
        category_ids: the number of each class in the data that it was trained on; None for 0, 1, 2 and so on.
        extra: what else was saved with it, plain values by name.
    """

    blueprint: Blueprint
    label_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """All that travels with an exported model."""
        blueprint = self.blueprint
        return {
            "task": blueprint.task,
            "architecture": f"{blueprint.head} over {blueprint.backbone}",
            "class_names": list(self.label_names),
            "category_ids": None if self.category_ids is None else list(self.category_ids),
        }


def create_dense(blueprint: Blueprint) -> nn.Module:
    """The model of a blueprint, with fresh weights, which has it as ``blueprint``.

    Raises:
        UserError: there is no such task, head or backbone, or an argument is none of theirs.
    """
    if blueprint.task not in BUILDERS:
        raise UserError(f"the task must be one of {', '.join(BUILDERS)}, got {blueprint.task!r}")
    module, function = BUILDERS[blueprint.task]
    build: Callable[..., nn.Module] = getattr(import_module(module), function)
    model = build(blueprint.head, blueprint.backbone, blueprint.num_classes, **blueprint.arguments)
    model.blueprint = blueprint  # type: ignore[assignment]
    return model


def save_dense(
    model: nn.Module,
    folder: str | Path,
    *,
    label_names: Sequence[str] = (),
    category_ids: Sequence[int] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model for `load_dense`.

    Each file is written under another name and then renamed: a folder never holds half of one.

    Args:
        model: from `create_dense` or the builder of its task, not merged.
        folder: created where it does not exist.
        label_names: name of each class; empty if there are none.
        category_ids: the number of each class in the data; None for 0, 1, 2 and so on.
        extra: plain values by name, to be told again.

    Raises:
        ValueError: the model was merged, has no blueprint, or has another number of classes.
        UserError: the folder cannot be written.
    """
    if is_merged(model):
        raise ValueError("a merged model cannot be saved for loading; save it before reparameterize()")
    blueprint = getattr(model, "blueprint", None)
    if not isinstance(blueprint, Blueprint):
        raise ValueError("the model must have a blueprint to be built again; build it with create_dense()")
    info = DenseInfo(
        blueprint,
        tuple(label_names),
        None if category_ids is None else tuple(category_ids),
        {} if extra is None else extra,
    )
    fault = fault_of(info)
    if fault:
        raise ValueError(fault)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / WEIGHTS) as unfinished:  # by its bytes: safetensors' own files are for one user
        unfinished.write_bytes(save(state, metadata={"format": "pt"}))
    write_text(folder / CONFIG, json.dumps(to_dict(info), indent=2) + "\n")


def load_dense(folder: str | Path) -> tuple[nn.Module, DenseInfo]:
    """The model of a folder, in evaluation mode, and what is known about it; runs no code from the folder.

    Raises:
        UserError: a file is absent, truncated or not ours, or weights and model do not fit.
    """
    folder = Path(folder)
    config = folder / CONFIG
    if task_of(folder) == CLASSIFY:
        raise UserError(f"{config} must describe a detector or segmenter, got a classifier; give another run")
    info = from_dict(read_object(config), config)

    def build() -> nn.Module:
        try:
            return create_dense(info.blueprint)
        except Exception as error:  # parts of many authors, given values that nobody has checked
            raise UserError(
                f"{config} describes no model that can be built ({error}); train the model again"
            ) from error

    return load_built(build, folder / WEIGHTS), info


def task_of(folder: str | Path) -> str:
    """What the model of a folder does: ``"classify"``, ``"detect"`` or ``"segment"``.

    Raises:
        UserError: the folder holds no model, or one of a task that is not known here.
    """
    path = Path(folder) / CONFIG
    task = read_object(path).get("task", CLASSIFY)
    if not isinstance(task, str) or task not in (CLASSIFY, *BUILDERS):
        raise UserError(f"{path} must be of one of {CLASSIFY}, {', '.join(BUILDERS)}, got the task {task!r}")
    return str(task)


def to_dict(info: DenseInfo) -> dict[str, Any]:
    """The content of ``config.json``."""
    blueprint = info.blueprint
    return {
        "task": blueprint.task,
        "head": blueprint.head,
        "backbone": blueprint.backbone,
        "num_classes": blueprint.num_classes,
        "arguments": dict(blueprint.arguments),
        "label_names": list(info.label_names),
        "category_ids": None if info.category_ids is None else list(info.category_ids),
        "extra": dict(info.extra),
    }


def from_dict(content: Mapping[str, Any], source: Path) -> DenseInfo:
    """What the content of ``config.json`` tells.

    Raises:
        UserError: it lacks a part, or holds what a file may not tell.
    """
    values = check_fields(content, FIELDS, source)
    arguments = dict(values["arguments"])
    blueprint = Blueprint(
        values["task"], values["head"], values["backbone"], values["num_classes"], arguments
    )
    ids = values["category_ids"]
    check_fields(values["extra"], EXTRA, source)
    info = DenseInfo(
        blueprint, tuple(values["label_names"]), None if ids is None else tuple(ids), dict(values["extra"])
    )
    # What only timm's factory may be told, by a person: among it other files to be read.
    options = arguments.get("options")
    foreign = sorted(NOT_ARGUMENTS.intersection(options if isinstance(options, Mapping) else ()))
    if foreign:
        raise UserError(f"{source} sets {', '.join(foreign)}, which a saved model may not; remove it")
    fault = fault_of(info)
    if fault:
        raise UserError(f"{source}: {fault}")
    return info


def fault_of(info: DenseInfo) -> str:
    """What does not fit together, as a sentence; empty if all does."""
    classes = info.blueprint.num_classes
    if info.label_names and len(info.label_names) != classes:
        return f"label_names must name all {classes} classes, got {len(info.label_names)}"
    ids = info.category_ids
    if ids is not None and (len(ids) != classes or len(set(ids)) != classes):
        return f"category_ids must be {classes} different numbers, one a class, got {list(ids)}"
    return ""
