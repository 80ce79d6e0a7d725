# SPDX-License-Identifier: Apache-2.0
"""What travels with an exported file: what it is, how pictures are prepared, how its classes are called."""

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

from slideformer.errors import UserError
from slideformer.models.fields import (
    CATEGORY_IDS,
    CLASSES,
    NAMES,
    TEXT,
    check_fields,
    integer,
    optional,
    parse_json,
    word,
)
from slideformer.models.preprocessing import FIELDS as PREPROCESSING_FIELDS
from slideformer.models.preprocessing import read_preprocessing
from slideformer.version import __version__

# Raised when a file of before can no longer be read as one of now.
FORMAT = "1"
# What every file tells, by the name that it has in there.
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
    "task": word(*TASKS),
    "precision": word(*PRECISIONS),
    "form": TEXT,
    "weights": TEXT,
    **dict.fromkeys(NUMBERS, optional(integer(1, LARGEST))),
}
# What else a file may tell, where it tells it.
FACTS = {
    **PREPROCESSING_FIELDS,
    "architecture": TEXT,
    "source": TEXT,
    "num_classes": CLASSES,
    "class_names": NAMES,
    "category_ids": CATEGORY_IDS,
}


@dataclass(frozen=True)
class Sizes:
    """The input that a file takes: a number where that alone will do, None where any does.

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
    """What a file says of itself.

    Attributes:
        task: ``"classify"``, ``"segment"`` or ``"detect"``.
        precision: ``"float32"``, ``"float16"`` or ``"int8"``.
        form: how slide attention is written in it, a backend of the operator.
        weights: `fingerprint` of the model that it was made of.
        sizes: of the input.
        facts: what else the model tells: architecture, class names, preprocessing; plain values by name.
    """

    task: str
    precision: str
    form: str
    weights: str
    sizes: Sizes = field(default_factory=Sizes)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def texts(self) -> dict[str, str]:
        """Everything as text by name: words as they are, other values as JSON."""
        own = {name: getattr(self, name) for name in WORDS}
        sizes = {name: getattr(self.sizes, name) for name in NUMBERS}
        about = dict(zip(ABOUT, (FORMAT, __version__), strict=True))
        values = {**self.facts, **own, **sizes, **about}
        return {name: x if isinstance(x, str) else json.dumps(x) for name, x in values.items()}

    @classmethod
    def of(cls, texts: Mapping[str, str], file: Path) -> Card:
        """Read what `texts` wrote.

        Raises:
            UserError: the file is none of ours, or of another format.
        """
        if not isinstance(texts, Mapping) or not all(isinstance(text, str) for text in texts.values()):
            raise UserError(f"{file} must tell texts by name, but tells something else; export it again")
        if "slideformer_format" not in texts:
            raise UserError(
                f"{file} must be a file that `slideformer export` wrote, but says nothing of it; export anew"
            )
        if texts["slideformer_format"] != FORMAT:
            raise UserError(
                f"{file} must have the format {FORMAT}, got {texts['slideformer_format']}, of slideformer "
                f"{texts.get('slideformer', 'unknown')}; export it anew with this version, {__version__}"
            )
        own = (*WORDS, *NUMBERS)
        missing = [name for name in own if name not in texts]
        if missing:
            raise UserError(f"{file} must tell its {', '.join(missing)}, but does not; export it anew")
        # A fingerprint of digits alone is no number.
        words = {name: texts[name] for name in WORDS}
        known = check_fields({**words, **{name: plain(texts[name]) for name in NUMBERS}}, FIELDS, file)
        facts = {name: plain(text) for name, text in texts.items() if name not in (*own, *ABOUT)}
        check_fields(facts, {name: field for name, field in FACTS.items() if name in facts}, file)
        sizes = Sizes(*(known[name] for name in NUMBERS))
        sides = (1, *read_preprocessing(facts, file).input_size[1:]) if "input_size" in facts else (1, 1, 1)
        if math.prod(sizes.of(*sides)) > MOST_PIXELS:
            raise UserError(
                f"batch x height x width of {file} must be at most {MOST_PIXELS}, got {sizes}; "
                "export it again"
            )
        return cls(**words, sizes=sizes, facts=facts)


def plain(text: str) -> Any:
    """The value that a text was made of."""
    try:
        return parse_json(text)
    except ValueError:  # a word is no JSON
        return text


def fingerprint(model: nn.Module) -> str:
    """Tells whether two models, not merged, have the same weights: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
