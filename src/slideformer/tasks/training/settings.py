# SPDX-License-Identifier: Apache-2.0
"""Reading YAML of unknown origin, within a bounded size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from slideformer.errors import UserError
from slideformer.files import read_text

# Far above any configuration: values, with those that aliases stand for, and levels of nesting.
MOST_NODES, MOST_LEVELS = 20_000, 30
MOST_BYTES = 1 << 20
MODE = "bounded_yaml"


def check_size(text: str) -> None:
    """Reject YAML that is large, nests deeply or refers to itself, before anything is built from it."""
    if not any(sign in text for sign in "[{:-&*\n"):
        return
    sizes: dict[str, int] = {}
    levels: list[tuple[str | None, int]] = [(None, 0)]

    def add(nodes: int) -> None:
        name, size = levels[-1]
        levels[-1] = (name, size + nodes)
        if sum(size for _, size in levels) > MOST_NODES or len(levels) > MOST_LEVELS:
            raise UserError(
                f"YAML must have at most {MOST_NODES} values, with those that its aliases stand for, and "
                f"{MOST_LEVELS} levels, got more; write less"
            )

    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise UserError(f"YAML must not refer to itself, got the alias {event.anchor}; remove it")
            add(sizes[event.anchor])
        elif isinstance(event, yaml.CollectionStartEvent):
            levels.append((event.anchor, 0))
            add(1)
        elif isinstance(event, yaml.CollectionEndEvent):
            name, size = levels.pop()
            if name is not None:
                sizes[name] = size
            add(size)
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None:
                sizes[event.anchor] = 1
            add(1)


def load(text: str) -> Any:
    """Read the value of a YAML text as the parser of the command line does."""
    check_size(text)
    try:
        return get_loader("yaml")(text)
    except TypeError as error:  # jsonargparse's, for a single key that is not text
        raise yaml.YAMLError("a key must be text, got another kind of value") from error


# The loader of every value and file of the command line.
set_loader(MODE, load, (yaml.YAMLError,))


def read_settings(file: Path) -> Any:
    """Read a configuration file."""
    try:
        text = read_text(file, most=MOST_BYTES)
        return load(text)
    except yaml.YAMLError as error:
        raise UserError(
            f"{file} must be a YAML file, but cannot be read ({' '.join(str(error).split())}); "
            "correct or restore it"
        ) from error
    except UserError as error:
        raise error if str(file) in str(error) else UserError(f"{file}: {error}") from error
