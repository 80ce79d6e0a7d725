# SPDX-License-Identifier: Apache-2.0
"""Values that a file says of itself, each checked against a row of a table."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

# Limits far above what any model says, and far below what would fill the memory.
MOST_CLASSES = 1_000_000
LONGEST_TEXT = 10_000
DEEPEST = 20


@dataclass(frozen=True)
class Field:
    """What a file may say under one name.

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
        lambda x: isinstance(x, list) and least <= len(x) <= most and all(map(each.holds, x)),
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
NAMES = many(TEXT)


def check_fields(content: Mapping[str, Any], fields: Mapping[str, Field]) -> dict[str, Any]:
    """The values of all fields, the default for what is absent or null.

    Args:
        content: what the file says.
        fields: what it may say, by name; other names are left out.

    Raises:
        KeyError: a value is absent.
        ValueError: a value is not what it must be.
    """
    found = {}
    for name, field in fields.items():
        value = content[name] if field.default is ... else content.get(name)
        if name in content and not field.holds(value):
            raise ValueError(f"{name} must be {field.must}, got {reprlib.repr(value)}")
        found[name] = field.default if value is None and field.default is not ... else value
    return found


def parse_json(text: str) -> Any:
    """A value from JSON, as the standard has it: no NaN, no name twice, not nested without end.

    Raises:
        ValueError: it is not that.
    """
    try:
        value = json.loads(text, parse_constant=refuse_constant, object_pairs_hook=unique)
        check_depth(value, DEEPEST)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return value


def refuse_constant(name: str) -> Any:
    """Refuse what Python writes for numbers that are not finite.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{name} is not a number of JSON")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names differ.

    Raises:
        ValueError: two are the same.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has two values of one name")
    return found


def check_depth(value: Any, most: int) -> None:
    """Refuse values that are nested deeper than any that are written.

    Raises:
        ValueError: they are.
    """
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if most == 0 and inner:
        raise ValueError("it is nested too deep")
    for x in inner:
        check_depth(x, most - 1)
