# SPDX-License-Identifier: Apache-2.0
"""What tells one kind of training from another."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from slideformer.errors import UserError
from slideformer.tasks.training.learner import Learner


@dataclass(frozen=True)
class Task:
    """A kind of training; one row a task.

    Attributes:
        name: the word after ``slideformer train``.
        purpose: what it does, for its help.
        learner: what is trained, with its arguments under ``--model``.
        data: a Lightning data module, with its arguments under ``--data``.
        package: where its ``recipes/`` lie.
        short: what a user types, and what Lightning's command line calls it.
        links: what the data tell the model or the model the data: from, to, and whether only an instance
            of the first knows.
    """

    name: str
    purpose: str
    learner: type[Learner]
    data: type[Any]
    package: str
    short: dict[str, str]
    links: tuple[tuple[str, str, bool], ...]

    @property
    def words(self) -> str:
        """The command that trains it."""
        return "slideformer train" if self.name == "classify" else f"slideformer train {self.name}"

    @property
    def folder(self) -> Any:
        """Where the recipes are."""
        return resources.files(self.package) / "recipes"

    def recipes(self) -> list[str]:
        """Names of the recipes that come with the package."""
        files = (entry.name for entry in self.folder.iterdir())
        return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))

    def recipe_path(self, name: str) -> str:
        """The file of a configuration: a path as it is, or the name of a shipped recipe."""
        if Path(name).is_file():
            return name
        if name in self.recipes():
            return str(self.folder / f"{name}.yaml")
        raise UserError(
            f"--config must be a YAML file or one of {', '.join(self.recipes())}, got {name}; check the path"
        )
