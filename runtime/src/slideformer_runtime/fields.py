# SPDX-License-Identifier: Apache-2.0
"""Values in a file's metadata, each checked against a row of a table."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

# Limits far above any real model, and far below what would fill the memory.
MAX_CLASSES = 1_000_000
MAX_TEXT = 10_000


@dataclass(frozen=True)
class Field:
    """A value that a file may have.

    Attributes:
        must: the requirement in words.
        accepts: whether a value meets it.
        default: used where the value is absent or null; ``...`` where it is required.
        is_json: whether the file stores JSON; otherwise plain text.
    """

    must: str
    accepts: Callable[[Any], bool]
    default: Any = ...
    is_json: bool = True


def number(low: float, high: float) -> Field:
    """A finite number from low to high."""
    return Field(f"a number from {low:g} to {high:g}", lambda x: type(x) in (int, float) and low <= x <= high)


def integer(low: int, high: int) -> Field:
    """An integer from low to high."""
    return Field(f"an integer from {low} to {high}", lambda x: type(x) is int and low <= x <= high)


def word(*known: str) -> Field:
    """One of some words."""
    return Field(f"one of {', '.join(known)}", lambda x: x in known, is_json=False)


def many(each: Field, least: int = 0, most: int = MAX_CLASSES) -> Field:
    """A list of values of one kind."""
    count = f"{least} to {most}" if least != most else most
    return Field(
        f"a list of {count} values, each {each.must}",
        lambda x: isinstance(x, list) and least <= len(x) <= most and all(map(each.accepts, x)),
    )


def optional(field: Field, default: Any = None) -> Field:
    """A value that may be null, and absent unless the default is ``...``."""
    return replace(
        field,
        must=f"{field.must}, or null",
        accepts=lambda x: x is None or field.accepts(x),
        default=default,
    )


TEXT = Field(
    f"text of at most {MAX_TEXT} characters",
    lambda x: isinstance(x, str) and len(x) <= MAX_TEXT,
    is_json=False,
)
NAMES = many(TEXT)


def read_fields(texts: Mapping[str, str], fields: Mapping[str, Field]) -> dict[str, Any]:
    """Read the values of some fields; a list becomes a tuple.

    Args:
        texts: all metadata of the file.
        fields: those to read, by name.

    Raises:
        KeyError: a required value is absent.
        ValueError: a value is not what it must be.
    """
    values = {}
    for name, field in fields.items():
        if name not in texts and field.default is not ...:
            values[name] = field.default
            continue
        try:
            value = json.loads(texts[name]) if field.is_json else texts[name]
        except (ValueError, RecursionError) as error:  # the second where it is nested too deep
            raise ValueError(f"{name} must be JSON, got {reprlib.repr(texts[name])}") from error
        if not field.accepts(value):
            raise ValueError(f"{name} must be {field.must}, got {reprlib.repr(value)}")
        if value is None and field.default is not ...:
            value = field.default
        values[name] = tuple(value) if isinstance(value, list) else value
    return values
