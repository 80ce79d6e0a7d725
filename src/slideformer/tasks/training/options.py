# SPDX-License-Identifier: Apache-2.0
"""The names of arguments in messages, replaced by the options of the command line of a training."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import fields, is_dataclass
from inspect import signature

import lightning as L

from slideformer.errors import name_options, naming
from slideformer.tasks.table import Task

# Options of a run that are not arguments of data, model or trainer; `data` is the source, as in `evaluate`.
OWN = {name: f"--{name}" for name in ("config", "data", "output", "resume")}


def option_names(task: Task) -> dict[str, str]:
    """The option of each argument that a message may name; of one name in two places the data's.

    Args:
        task: whose data module and learner are looked at, next to the trainer.
    """
    names = dict(OWN)
    given = {link.target for link in task.links}
    for group, kind in (("data", task.data()), ("model", task.learner()), ("trainer", L.Trainer)):
        for name, parameter in signature(kind).parameters.items():
            if f"{group}.{name}" in given:
                continue
            names.setdefault(name, f"--{group}.{name}")
            if is_dataclass(parameter.default):
                for field in fields(parameter.default):
                    names.setdefault(f"{name}.{field.name}", f"--{group}.{name}.{field.name}")
    short = {option: word for word, option in task.short.items()}
    return {name: short.get(option, option) for name, option in names.items()}


def with_options(task: Task, message: str) -> str:
    """A message with options in place of arguments: ``--batch-size`` for ``batch_size``.

    Args:
        task: what is trained.
        message: of the library.
    """
    return name_options(message, option_names(task))


def naming_options(task: Task) -> AbstractContextManager[None]:
    """Replace arguments by options in the user's errors that leave the block.

    Args:
        task: what is trained.
    """
    return naming(option_names(task))
