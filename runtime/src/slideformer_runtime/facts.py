# SPDX-License-Identifier: Apache-2.0
"""What an exported file tells of itself, read and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from slideformer_runtime.errors import UserError
from slideformer_runtime.fields import (
    NAMES,
    TEXT,
    check_fields,
    integer,
    many,
    optional,
    parse_json,
)
from slideformer_runtime.preprocessing import (
    PREPROCESSING,
    PREPROCESSING_TEXTS,
    Preprocessing,
    preprocessing_of,
)

# The number of the agreement between whoever writes such files and whoever reads them.
FORMAT = "1"
FORMAT_KEY, EXPORTER_KEY = "slideformer_format", "slideformer"
# A side of any input, in pixels, or a number of pictures.
LONGEST = 2**16
# Pixels of all pictures of one input of a fixed size.
MOST_PIXELS = 2**27
SIDES = dict.fromkeys(("batch", "height", "width"), optional(integer(1, LONGEST), ...))
# Texts as they are; all others are JSON.
TEXTS = {
    EXPORTER_KEY: TEXT,
    "task": TEXT,
    "architecture": TEXT,
    "precision": TEXT,
}
VALUES = {
    "class_names": NAMES,
    **SIDES,
    "category_ids": optional(many(integer(-(2**53), 2**53))),
}
KEYS = (FORMAT_KEY, *TEXTS, *VALUES, *PREPROCESSING, *PREPROCESSING_TEXTS)


@dataclass(frozen=True)
class Facts:
    """What is known of a model beside its weights.

    Attributes:
        exporter: version of slideformer that wrote the file.
        task: ``classify``, ``segment`` or ``detect``.
        architecture: name of the model.
        precision: of its weights, ``float32``, ``float16`` or ``int8``.
        class_names: in the order of the model's answers; empty if there are none.
        batch: how many pictures it takes at once; like the following, None where it takes any.
        height: of the picture that it takes, in pixels.
        width: of the picture that it takes, in pixels.
        preprocessing: a classifier's; None where the model normalises by itself.
        category_ids: a detector's, numbers of its classes in the data that it was trained on.
    """

    exporter: str
    task: str
    architecture: str
    precision: str
    class_names: tuple[str, ...]
    batch: int | None
    height: int | None
    width: int | None
    preprocessing: Preprocessing | None = None
    category_ids: tuple[int, ...] | None = None

    def names(self, count: int) -> tuple[str, ...]:
        """Names of all classes, their numbers where there are none.

        Args:
            count: how many classes the model answers for.

        Raises:
            UserError: the file names another number of classes.
        """
        if self.class_names and len(self.class_names) != count:
            raise UserError(
                f"the file must name all {count} classes of its model, got {len(self.class_names)} names; "
                "export it again"
            )
        return self.class_names if self.class_names else tuple(map(str, range(count)))


def read_facts(metadata: Mapping[str, str], source: str) -> Facts:
    """The facts in the texts of a file.

    Args:
        metadata: all that the file says, by its keys.
        source: the file, for errors.

    Raises:
        UserError: the file is not of slideformer, of another format, or a fact is absent or out of its range.
    """
    refuse_another_format(metadata, source)
    prepared = "input_size" in metadata
    texts = {**TEXTS, **(PREPROCESSING_TEXTS if prepared else {})}
    values = {**VALUES, **(PREPROCESSING if prepared else {})}
    try:
        told = check_fields(metadata, texts)
        told |= check_fields({key: read_value(metadata, key) for key in values if key in metadata}, values)
        facts = Facts(
            exporter=told[EXPORTER_KEY],
            task=told["task"],
            architecture=told["architecture"],
            precision=told["precision"],
            class_names=tuple(told["class_names"]),
            batch=told["batch"],
            height=told["height"],
            width=told["width"],
            preprocessing=preprocessing_of(told) if prepared else None,
            category_ids=None if told["category_ids"] is None else tuple(told["category_ids"]),
        )
        check_together(facts)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{source} must tell all of its facts, but {reason(error)}; export it again"
        ) from error
    if facts.task == "classify" and facts.preprocessing is None:
        raise UserError(
            f"{source} must tell how a picture is prepared, but has no input_size; export it again"
        )
    return facts


def read_value(metadata: Mapping[str, str], key: str) -> object:
    """The value of a fact that is JSON.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return parse_json(metadata[key])
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def check_together(facts: Facts) -> None:
    """Refuse facts that do not fit together.

    Raises:
        ValueError: says which.
    """
    ids, names, how = facts.category_ids, facts.class_names, facts.preprocessing
    if ids is not None and names and len(ids) != len(names):
        raise ValueError(f"category_ids must be {len(names)}, one for each name, got {len(ids)}")
    height, width = facts.height, facts.width
    if how is not None:
        height, width = how.input_size[1:]
    sides = (facts.batch, height, width)
    if math.prod(1 if side is None else side for side in sides) > MOST_PIXELS:
        raise ValueError(f"batch x height x width must be at most {MOST_PIXELS}, got {sides}")


def refuse_another_format(metadata: Mapping[str, str], source: str) -> None:
    """Refuse a file that another program wrote, or an older or newer slideformer.

    Raises:
        UserError: it is one.
    """
    if FORMAT_KEY not in metadata and EXPORTER_KEY not in metadata:
        raise UserError(
            f"{source} was not exported by slideformer; give a file that `slideformer export` wrote"
        )
    number = metadata.get(FORMAT_KEY, "none")
    if number != FORMAT:
        exporter = metadata.get(EXPORTER_KEY, "unknown")
        raise UserError(
            f"{source} must be of format {FORMAT}, got format {number}, of slideformer {exporter}; export it "
            "again, or install the slideformer-runtime of that version"
        )


def reason(error: Exception) -> str:
    """What is wrong with the facts, in words."""
    return (
        f"has no {error.args[0]}" if isinstance(error, KeyError) else f"one of them is not readable ({error})"
    )
