# SPDX-License-Identifier: Apache-2.0
"""The model that a user means: the folder of a run, or a name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slideformer.errors import UserError

if TYPE_CHECKING:
    from torch import nn

# Height and width of the picture that a dense model is traced with.
SIDES = (160, 192)
RANDOM = "random weights of seed 0"


@dataclass(frozen=True)
class Source:
    """A model that is to be exported, or was.

    Attributes:
        model: in evaluation mode, not merged.
        facts: what travels with it: task, architecture, class names, preprocessing.
        stem: where its files lie, and what their names begin with.
        size: channels, height and width of an input, unless another is asked for.
    """

    model: nn.Module
    facts: dict[str, Any]
    stem: Path
    size: tuple[int, int, int]


def open_source(name: str, num_classes: int | None = None) -> Source:
    """The model of a run's folder, or a named one with random weights, the same always.

    Raises:
        UserError: neither a run nor a model, or a number of classes for a run.
    """
    from slideformer.models.dense.saved import CLASSIFY, load_dense, task_of
    from slideformer.models.pretrained import load_pretrained

    if not Path(name).is_dir():
        return named(name, num_classes)
    if num_classes is not None:
        raise UserError(
            "--num-classes goes with a model's name; the classes of a run are known, leave it out"
        )
    stem = Path(name) / "model"
    if task_of(name) == CLASSIFY:
        model, info = load_pretrained(name)
        return Source(model, {"task": CLASSIFY, **info.facts()}, stem, info.input_size)
    model, dense = load_dense(name)
    facts = {**dense.facts(), "input": "RGB, pixels from 0 to 1; the model normalises"}
    return Source(model, facts, stem, (3, *SIDES))


def named(name: str, num_classes: int | None) -> Source:
    """A model by its name, with random weights.

    Raises:
        UserError: there is no such model.
    """
    import timm
    import torch
    from timm.data import resolve_data_config

    from slideformer.models.names import pretrained_cfg
    from slideformer.models.preprocessing import read_preprocessing

    if num_classes is not None and num_classes < 1:
        raise UserError(f"--num-classes must be at least 1, got {num_classes}")
    if "/" in name:
        raise UserError(f"{name} must be the folder of a finished run, but does not exist; check the path")
    config = resolve_data_config({}, pretrained_cfg=pretrained_cfg(name))
    classes: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    torch.manual_seed(0)
    model = timm.create_model(name, **classes).eval()
    facts = read_preprocessing(config, name).preprocessing()
    known: dict[str, Any] = {"num_classes": model.num_classes, "source": RANDOM, "class_names": []}
    size = config["input_size"]
    return Source(model, {"task": "classify", "architecture": name, **known, **facts}, Path(name), size)


def source_of(file: Path, facts: dict[str, Any], given: str | None) -> Source:
    """The model that a file was exported from: the given one, that of the folder around it, or the named one.

    Raises:
        UserError: none of these is there.
    """
    from slideformer.models.pretrained import CONFIG

    if given is not None:
        return open_source(given)
    if facts.get("source") == RANDOM:
        return open_source(str(facts["architecture"]), facts.get("num_classes"))
    if (file.parent / CONFIG).is_file():
        return open_source(str(file.parent))
    raise UserError(f"{file} must lie in the folder of its run, or --model must name that; give --model RUN")
