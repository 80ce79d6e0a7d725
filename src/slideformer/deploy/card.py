# SPDX-License-Identifier: Apache-2.0
"""The metadata of an exported file: what it is, how images are prepared, the names of its classes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slideformer.deploy.attention import AttentionLayer
from slideformer.errors import UserError
from slideformer.runs import Facts
from slideformer.runs.fields import (
    CATEGORY_IDS,
    CLASSES,
    NAMES,
    TEXT,
    VAL_FRACTION,
    Field,
    check_fields,
    integer,
    optional,
    parse_json,
    word,
)
from slideformer.runs.preprocessing import read_preprocessing
from slideformer.runs.run import TaskName
from slideformer.version import __version__

# Older readers take files of the first format, whose detectors have no masks, or of the first two, which have
# no attention weights.
FORMAT, FORMAT_OF_MASKS, FORMAT_OF_ATTENTION = FORMATS = ("1", "2", "3")
# The entries that every file has.
ABOUT = ("slideformer_format", "slideformer")
WORDS = ("task", "precision", "form", "weights")
NUMBERS = ("batch", "height", "width")
TASKS = ("classify", "segment", "detect")
PRECISIONS = ("float32", "float16", "int8")

# A side of the input, or a number of images, at most.
LARGEST = 2**16
# Pixels of all images of one input.
MOST_PIXELS = 2**27
FIELDS = {
    "masks": optional(Field("true or false", lambda x: isinstance(x, bool)), False),
    "attention": optional(Field("a list", lambda x: isinstance(x, list)), ()),
    "task": word(*TASKS),
    "precision": word(*PRECISIONS),
    "form": TEXT,
    "weights": TEXT,
    **dict.fromkeys(NUMBERS, optional(integer(1, LARGEST))),
}
FACTS = {
    "architecture": optional(TEXT, "unknown"),
    "source": optional(TEXT, ""),
    "num_classes": optional(CLASSES),
    "class_names": optional(NAMES, ()),
    "category_ids": CATEGORY_IDS,
    "val_fraction": VAL_FRACTION,
}
# The source of a model that was exported by its name.
RANDOM = "random weights of seed 0"


@dataclass(frozen=True)
class Sizes:
    """The input that a file takes: a number where only that is possible, None for any.

    Attributes:
        batch: images.
        height: of an image, in pixels.
        width: of an image, in pixels.
    """

    batch: int | None = None
    height: int | None = None
    width: int | None = None

    def of(self, batch: int, height: int, width: int) -> tuple[int, int, int]:
        """Batch, height and width of an input that the file takes: the wanted ones where it takes any."""
        return (
            batch if self.batch is None else self.batch,
            height if self.height is None else self.height,
            width if self.width is None else self.width,
        )

    def __str__(self) -> str:
        words = ("any" if number is None else str(number) for number in (self.batch, self.height, self.width))
        return " x ".join(words)


@dataclass(frozen=True)
class Card:
    """The metadata of an exported file.

    Attributes:
        precision: of weights and products, ``"float32"``, ``"float16"`` or ``"int8"``.
        form: how slide attention is written in it, a backend of the operator.
        weights: `fingerprint` of the model that it was exported from.
        facts: everything known about the model.
        sizes: of the input.
        masks: whether a detector gives masks, too.
        attention: the layers whose attention weights the file gives, in the order of its outputs.
    """

    precision: str
    form: str
    weights: str
    facts: Facts
    sizes: Sizes = field(default_factory=Sizes)
    masks: bool = False
    attention: tuple[AttentionLayer, ...] = ()

    @property
    def format(self) -> str:
        """The first format that has all that the card says."""
        if self.attention:
            return FORMAT_OF_ATTENTION
        return FORMAT_OF_MASKS if self.masks else FORMAT

    @property
    def task(self) -> TaskName:
        """The task of the model."""
        return self.facts.task

    def texts(self) -> dict[str, str]:
        """Everything as text by name: words unchanged, other values as JSON."""
        own = {"task": self.task, "precision": self.precision, "form": self.form, "weights": self.weights}
        sizes = {name: getattr(self.sizes, name) for name in NUMBERS}
        about = dict(zip(ABOUT, (self.format, __version__), strict=True))
        masks = {"masks": True} if self.masks else {}
        layers = {"attention": [x.values() for x in self.attention]} if self.attention else {}
        values = {**values_of(self.facts), **own, **sizes, **masks, **layers, **about}
        return {name: x if isinstance(x, str) else json.dumps(x) for name, x in values.items()}

    @classmethod
    def of(cls, texts: Mapping[str, str], file: Path) -> Card:
        """Read what `texts` wrote.

        Raises:
            UserError: the file is not of slideformer, or of another format.
        """
        check_format(texts, file)
        own = (*WORDS, *NUMBERS)
        missing = [name for name in own if name not in texts]
        if missing:
            raise UserError(f"{file} must state its {', '.join(missing)}, but does not; export it again")
        # A fingerprint that happens to be digits stays a text.
        words = {name: texts[name] for name in WORDS}
        rest = {name: plain(text) for name, text in texts.items() if name not in (*WORDS, *ABOUT)}
        known = check_fields({**rest, **words}, FIELDS, file)
        facts = facts_of(known["task"], rest, file)
        sizes = Sizes(*(known[name] for name in NUMBERS))
        sides = (1, 1) if facts.preprocessing is None else facts.preprocessing.input_size[1:]
        if math.prod(sizes.of(1, *sides)) > MOST_PIXELS:
            raise UserError(
                f"batch x height x width of {file} must be at most {MOST_PIXELS}, got {sizes}; "
                "export it again"
            )
        attention = tuple(AttentionLayer.of(values, file) for values in known["attention"])
        return cls(
            texts["precision"], texts["form"], texts["weights"], facts, sizes, known["masks"], attention
        )


def check_format(texts: Mapping[str, str], file: Path) -> None:
    """Check that a file is of slideformer, in a format that is known here."""
    if not isinstance(texts, Mapping) or not all(isinstance(text, str) for text in texts.values()):
        raise UserError(f"the metadata of {file} must be texts by name, got others; export it again")
    if "slideformer_format" not in texts:
        raise UserError(
            f"{file} must be a file that `slideformer export` wrote, but has none of its metadata; "
            "export it again"
        )
    number, writer = texts["slideformer_format"], texts.get("slideformer", "unknown")
    if number not in FORMATS:
        raise UserError(
            f"{file} must have the format {FORMATS[0]} to {FORMATS[-1]}, got {number}, of slideformer "
            f"{writer}; export it again with this version, {__version__}"
        )


def values_of(facts: Facts) -> dict[str, Any]:
    """Facts as plain values by the names that files have."""
    values: dict[str, Any] = {"architecture": facts.architecture, "class_names": list(facts.class_names)}
    if facts.num_classes is not None:
        values["num_classes"] = facts.num_classes
    if facts.random:
        values["source"] = RANDOM
    if facts.val_fraction is not None:
        values["val_fraction"] = facts.val_fraction
    if facts.preprocessing is not None:
        return {**values, **facts.preprocessing.values()}
    ids = None if facts.category_ids is None else list(facts.category_ids)
    return {**values, "category_ids": ids, "input": "RGB, pixels from 0 to 1; the model normalises"}


def facts_of(task: TaskName, values: Mapping[str, Any], file: Path) -> Facts:
    """Facts from the plain values of a file."""
    known = check_fields(values, FACTS, file)
    ids = known["category_ids"]
    return Facts(
        task=task,
        architecture=known["architecture"],
        num_classes=known["num_classes"],
        class_names=tuple(known["class_names"]),
        category_ids=None if ids is None else tuple(ids),
        preprocessing=read_preprocessing(values, file) if "input_size" in values else None,
        val_fraction=known["val_fraction"],
        random=known["source"] == RANDOM,
    )


def plain(text: str) -> Any:
    """Parse a text into its value."""
    try:
        return parse_json(text)
    except ValueError:  # a word is not JSON
        return text


def fingerprint(model: nn.Module) -> str:
    """A digest of the weights of a model that is not merged: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
