# SPDX-License-Identifier: Apache-2.0
"""The command that makes a training again, from its resolved configuration."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

import yaml

from slideformer.tasks.model_card import shareable_value
from slideformer.tasks.table import Task
from slideformer.tasks.training.options import option_names
from slideformer.tasks.training.recipes import FINE_TUNE, merged, read_config, recipe_files


def command_of(task: Task, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The shortest command with the same configuration: a recipe, or none, and what differs from it.

    Paths in it are without the folders that they are in.

    Args:
        task: what was trained.
        config: the resolved configuration, as plain values.
        defaults: the configuration of a command without options.
    """
    long = {*option_names(task).values(), *task.short.values()}
    recipes = recipe_files(task.name)
    # A training from weights takes this recipe where none is named.
    implied = FINE_TUNE if config["model"]["weights"] is not None and FINE_TUNE in recipes else None
    commands = []
    for name in (None, *recipes):
        taken = implied if name is None else name
        base = defaults if taken is None else merged(dict(defaults), read_config(task.name, recipes[taken]))
        words = [] if name is None else ["--config", name]
        for option, value in changes(config, base, long):
            words += [option, as_word(shareable_value(value))]
        commands.append([*task.command.split(), *words])
    short = {option: word for word, option in task.short.items()}
    return shlex.join(short.get(word, word) for word in min(commands, key=len))


def changes(
    config: Mapping[str, Any], base: Mapping[str, Any], options: set[str], prefix: str = "--"
) -> Iterator[tuple[str, Any]]:
    """Options and values of a configuration that differ from those of another one.

    Args:
        config: with the values.
        base: that they are compared with.
        options: the names of all options; a table is entered where its entries are options.
        prefix: of the options of this table.
    """
    for key, x in config.items():
        option, before = f"{prefix}{key}", base.get(key)
        if x == before:
            continue
        inner = any(name.startswith(f"{option}.") for name in options)
        if inner and isinstance(x, dict) and isinstance(before, dict):
            yield from changes(x, before, options, f"{option}.")
        else:
            yield option, x


def as_word(value: Any) -> str:
    """A value as the command line takes it: text unchanged, all else as YAML in a line."""
    if isinstance(value, str):
        return value
    text: str = yaml.safe_dump(value, default_flow_style=True, width=inf, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
