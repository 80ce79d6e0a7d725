# SPDX-License-Identifier: Apache-2.0
"""The metadata of an exported file, read and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from slideformer_runtime.errors import UserError
from slideformer_runtime.fields import NAMES, TEXT, integer, many, optional, read_fields
from slideformer_runtime.preprocessing import FIELDS as PREPROCESSING_FIELDS
from slideformer_runtime.preprocessing import Preprocessing, read_preprocessing

# The versions of the metadata that are read here; the second is of detectors with masks, the third of models
# that also give their attention weights.
FORMATS = ("1", "2", "3")
FORMAT_KEY, EXPORTER_KEY = "slideformer_format", "slideformer"
# A side of any input in pixels, or a number of images.
MAX_SIDE = 2**16
# Pixels of all images of one input of a fixed size.
MAX_PIXELS = 2**27
FIELDS = {
    EXPORTER_KEY: TEXT,
    "task": TEXT,
    "architecture": TEXT,
    "precision": TEXT,
    "class_names": NAMES,
    **dict.fromkeys(("batch", "height", "width"), optional(integer(1, MAX_SIDE), ...)),
    "category_ids": optional(many(integer(-(2**53), 2**53))),
}
# Besides those that are checked here, what slideformer itself reads.
KEYS = (FORMAT_KEY, *FIELDS, *PREPROCESSING_FIELDS, "num_classes", "val_fraction")


@dataclass(frozen=True)
class Facts:
    """A model's description in its file.

    Attributes:
        exporter: version of slideformer that wrote the file.
        task: ``classify``, ``segment`` or ``detect``.
        architecture: name of the model.
        precision: of its weights, ``float32``, ``float16`` or ``int8``.
        class_names: in the order of the model's outputs; empty if it has none.
        batch: how many images it takes at once; like the following, None where it takes any.
        height: of the images that it takes, in pixels.
        width: of the images that it takes, in pixels.
        preprocessing: of a classifier; None where the model normalises by itself.
        category_ids: of a detector, numbers of its classes in the training data.
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
        """Return the names of all classes, or their numbers where there are none.

        Args:
            count: how many classes the model has.

        Raises:
            UserError: the file names another number of classes.
        """
        if self.class_names and len(self.class_names) != count:
            raise UserError(
                f"the file must name all {count} classes of its model, got {len(self.class_names)} names; "
                "export it again"
            )
        return self.class_names if self.class_names else tuple(map(str, range(count)))


def read_facts(texts: Mapping[str, str], source: str) -> Facts:
    """Read and check the facts in a file's metadata.

    Args:
        texts: all metadata, by key.
        source: the file, for errors.

    Raises:
        UserError: slideformer did not write the file, it is of another format, or a value is absent or out of
            its range.
    """
    check_format(texts, source)
    try:
        return parse_facts(texts)
    except (KeyError, ValueError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{source} must have valid metadata, but {reason}; export it again") from error


def check_format(texts: Mapping[str, str], source: str) -> None:
    """Raise a UserError for a file of another program, or of an older or newer slideformer."""
    if FORMAT_KEY not in texts and EXPORTER_KEY not in texts:
        raise UserError(
            f"{source} was not exported by slideformer; give a file that `slideformer export` wrote"
        )
    number = texts.get(FORMAT_KEY, "none")
    if number not in FORMATS:
        exporter = texts.get(EXPORTER_KEY, "unknown")
        raise UserError(
            f"{source} must be of format {FORMATS[0]} to {FORMATS[-1]}, got format {number}, of slideformer "
            f"{exporter}; export it again, or install the slideformer-runtime of that version"
        )


def parse_facts(texts: Mapping[str, str]) -> Facts:
    """Parse every value; a KeyError names one that is absent, a ValueError says what it must be."""
    values = read_fields(texts, FIELDS)
    prepared = "input_size" in texts or values["task"] == "classify"
    how = read_preprocessing(texts) if prepared else None
    facts = Facts(exporter=values.pop(EXPORTER_KEY), preprocessing=how, **values)
    check_consistent(facts)
    return facts


def check_consistent(facts: Facts) -> None:
    """Raise a ValueError for values that do not fit together."""
    ids, names, how = facts.category_ids, facts.class_names, facts.preprocessing
    if ids is not None and names and len(ids) != len(names):
        raise ValueError(f"category_ids must be {len(names)}, one for each name, got {len(ids)}")
    height, width = (facts.height, facts.width) if how is None else how.input_size[1:]
    sides = (facts.batch, height, width)
    if math.prod(1 if side is None else side for side in sides) > MAX_PIXELS:
        raise ValueError(f"batch x height x width must be at most {MAX_PIXELS}, got {sides}")
