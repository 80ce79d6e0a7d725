# SPDX-License-Identifier: Apache-2.0
"""The record of a training, ``training.json``: how it was done and what it reached, without local folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path

from slideformer.files import write_text
from slideformer.runs.fields import (
    TEXT,
    Field,
    check_fields,
    integer,
    number,
    optional,
    read_object,
)

NAME = "training.json"


@dataclass(frozen=True, kw_only=True)
class Record:
    """Facts of a finished training.

    Attributes:
        epoch: whose weights were saved, from 1.
        epochs: of the whole training.
        chosen_by: the figure by which that epoch was chosen, in words; empty where it is the last one.
        candidates: epochs that were evaluated, among which it was chosen.
        average: whether the weights are their moving average.
        figures: on the hold-out, with the saved weights, by the names of `FIGURES`; empty if unknown.
        data: name of the data.
        dataset: their name on the Hub; empty if they have none.
        train_images: number of images to train on; None if unknown.
        val_images: number of images held out; None if unknown.
        parameters: of the model.
        recipe: its main values, in words, by name.
        weights: that it started from, in words.
        base_model: the Hub's name of those weights; empty if they have none.
        teacher: whose answers it learned, in words; empty for none.
        images_per_second: of training, the median; None if unknown.
        device: where it was trained.
        versions: of libraries, by name.
        command: that makes it again.
    """

    epoch: int
    epochs: int
    chosen_by: str
    candidates: int
    average: bool
    data: str
    dataset: str
    parameters: int
    recipe: Mapping[str, str]
    weights: str
    base_model: str
    teacher: str
    device: str
    versions: Mapping[str, str]
    command: str
    figures: Mapping[str, float] = field(default_factory=dict)
    train_images: int | None = None
    val_images: int | None = None
    images_per_second: float | None = None


COUNT = integer(0, 2**53)
WORDS = Field(
    "texts by name", lambda x: isinstance(x, Mapping) and all(isinstance(text, str) for text in x.values())
)
FIELDS = {
    **dict.fromkeys(
        ("chosen_by", "data", "dataset", "weights", "base_model", "teacher", "device", "command"), TEXT
    ),
    **dict.fromkeys(("recipe", "versions"), WORDS),
    **dict.fromkeys(("epoch", "epochs", "candidates", "parameters"), COUNT),
    **dict.fromkeys(("train_images", "val_images"), optional(COUNT)),
    "average": Field("true or false", lambda x: isinstance(x, bool)),
    "images_per_second": optional(number(0, 1e12)),
    "figures": Field(
        "finite numbers by name",
        lambda x: isinstance(x, Mapping) and all(type(y) in (int, float) and isfinite(y) for y in x.values()),
    ),
}


def write_record(record: Record, folder: Path) -> None:
    """Write the record of a training into the folder of its run.

    Raises:
        UserError: the file cannot be written.
    """
    write_text(folder / NAME, json.dumps(asdict(record), indent=2) + "\n")


def read_record(folder: Path) -> Record | None:
    """The record of the training of a run; None where there is none, as in a folder that was downloaded.

    Raises:
        UserError: the file is damaged.
    """
    if not (folder / NAME).exists():
        return None
    return Record(**check_fields(read_object(folder / NAME), FIELDS, folder / NAME))
