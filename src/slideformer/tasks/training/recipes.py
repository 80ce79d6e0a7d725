# SPDX-License-Identifier: Apache-2.0
"""The recipes that come with the package: YAML files, which may be differences from one another."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from slideformer.errors import UserError
from slideformer.tasks.training.settings import read_settings

# The key under which a file names the recipe that it is a difference from.
BASE = "base"
# The recipe of a training that starts from weights, where none is named.
FINE_TUNE = "fine_tune"


def recipe_files(task: str) -> dict[str, Path]:
    """The files of a task's recipes by name.

    Args:
        task: name of the task.
    """
    folder = resources.files(f"slideformer.tasks.{task}") / "recipes"
    paths = sorted(Path(str(entry)) for entry in folder.iterdir())
    return {path.stem: path for path in paths if path.suffix == ".yaml"}


def recipe_names(task: str) -> list[str]:
    """Names of the recipes of a task."""
    return list(recipe_files(task))


def find_config(task: str, name: str) -> Path:
    """The file of a configuration.

    Args:
        task: name of the task.
        name: a path, or the name of a recipe.
    """
    if Path(name).is_file():
        return Path(name)
    return find_recipe(task, name, "`config` must be a YAML file or one of")


def find_recipe(task: str, name: object, must: str) -> Path:
    """The file of a recipe."""
    files = recipe_files(task)
    if not isinstance(name, str) or name not in files:
        raise UserError(f"{must} {', '.join(files)}, got {name or 'none'}; correct it")
    return files[name]


def read_config(task: str, file: Path) -> dict[str, Any]:
    """The values of a configuration, with those of its base.

    Args:
        task: name of the task.
        file: of the configuration.
    """
    content = read_settings(file)
    if not isinstance(content, dict) or BASE not in content:
        return content if isinstance(content, dict) else {}
    base = find_recipe(task, content[BASE], f"{BASE} in {file} must be one of")
    return merged(read_config(task, base), {key: x for key, x in content.items() if key != BASE})


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Values of a base with changes; of tables entry by entry, everything else as a unit."""
    result = dict(base)
    for key, x in change.items():
        inner = base.get(key)
        result[key] = merged(inner, x) if isinstance(x, dict) and isinstance(inner, dict) else x
    return result


def values_of(config: dict[str, Any]) -> Iterator[str]:
    """The values of a configuration for a reader, each with the last word of its path: ``lr 0.0003``."""
    for key, x in config.items():
        if isinstance(x, dict):
            yield from values_of(x)
        else:
            yield f"{key} {x}"


def config_option(task: str, name: str) -> str:
    """The option ``--config`` of a command line for a file or recipe: its path; of a difference its values.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    file = find_config(task, name)
    content = read_settings(file)  # raises for what is not text, with its name
    if not isinstance(content, dict) or BASE not in content:
        return f"--config={file}"
    return f"--config={yaml.safe_dump(read_config(task, file))}"
