# SPDX-License-Identifier: Apache-2.0
"""Values read from a file, each checked against a row of a table."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slideformer.errors import UserError
from slideformer.files import read_text

# Limits far above what any model says, and far below what would fill the memory.
MOST_BYTES = 2**24
MOST_CLASSES = 1_000_000
LONGEST_TEXT = 10_000
DEEPEST = 20


@dataclass(frozen=True)
class Field:
    """The rule for one entry of a file.

    Attributes:
        must: what a value must be, in words.
        holds: whether a value is that.
        default: the value where the file says nothing; required where there is none.
    """

    must: str
    holds: Callable[[Any], bool]
    default: Any = ...


def number(low: float, high: float) -> Field:
    """A finite number between two bounds, both included."""
    return Field(f"a number from {low:g} to {high:g}", lambda x: type(x) in (int, float) and low <= x <= high)


def integer(low: int, high: int) -> Field:
    """A whole number between two bounds, both included."""
    return Field(f"a whole number from {low} to {high}", lambda x: type(x) is int and low <= x <= high)


def word(*known: str) -> Field:
    """One of some words."""
    return Field(f"one of {', '.join(known)}", lambda x: isinstance(x, str) and x in known)


def many(each: Field, least: int = 0, most: int = MOST_CLASSES) -> Field:
    """A list of values of one kind."""
    count = f"{least} to {most}" if least != most else most
    return Field(
        f"a list of {count} values, each {each.must}",
        lambda x: isinstance(x, (list, tuple)) and least <= len(x) <= most and all(map(each.holds, x)),
    )


def optional(field: Field, default: Any = None) -> Field:
    """A value that may be absent or null."""
    return replace(
        field,
        must=f"{field.must}, or null",
        holds=lambda x: x is None or field.holds(x),
        default=default,
    )


TEXT = Field(
    f"text of at most {LONGEST_TEXT} characters", lambda x: isinstance(x, str) and len(x) <= LONGEST_TEXT
)
TABLE = Field("an object, values by name", lambda x: isinstance(x, Mapping))
NAMES = many(TEXT)
CLASSES = integer(0, MOST_CLASSES)
# Numbers of classes in the data that a detector was trained on; null for 0, 1, 2 and so on.
CATEGORY_IDS = optional(many(integer(-(2**53), 2**53)))
# The part of each class of a classifier's folder that a training held out.
VAL_FRACTION = optional(number(0, 1))


def check_fields(content: Mapping[str, Any], fields: Mapping[str, Field], source: object) -> dict[str, Any]:
    """The values of all fields, the default for what is absent or null.

    Args:
        content: what the file says.
        fields: what it may say, by name; other names are left out.
        source: the file, for errors.

    Raises:
        UserError: a value is absent, or is not what it must be.
    """
    found = {}
    for name, field in fields.items():
        value = content.get(name)
        if name not in content and field.default is ...:
            raise UserError(f"{source} must describe a model, but lacks {name!r}; train or export it again")
        if name in content and not field.holds(value):
            raise UserError(
                f"{name} in {source} must be {field.must}, got {reprlib.repr(value)}; "
                "correct it, or train or export it again"
            )
        found[name] = field.default if value is None and field.default is not ... else value
    return found


def parse_json(text: str | bytes) -> Any:
    """A value from JSON, as the standard has it: no NaN, no name twice, not nested without end."""
    try:
        value = json.loads(text, parse_constant=refuse_constant, object_pairs_hook=unique)
        check_depth(value, DEEPEST)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return value


def refuse_constant(name: str) -> Any:
    """Refuse what Python writes for numbers that are not finite."""
    raise ValueError(f"{name} is not a number of JSON")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names differ."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has two values of one name")
    return found


def check_depth(value: Any, most: int) -> None:
    """Refuse values that are nested deeper than any that we write."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if most == 0 and inner:
        raise ValueError("it is nested too deep")
    for x in inner:
        check_depth(x, most - 1)


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        text = read_text(path, most=MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path} does not exist; give the folder of a finished run") from error
    try:
        content = parse_json(text)
    except ValueError as error:
        raise UserError(f"{path} must be JSON ({error}); restore or remove it") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must be a JSON object, got {type(content).__name__}; train the model again")
    return content
