# SPDX-License-Identifier: Apache-2.0
"""What a verb does for each task; the verb finds the task in the folder of the run."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slideformer.errors import UserError

# A module here for each task, and the extra that its packages come with.
EXTRAS = {"classify": "train", "detect": "detect", "segment": "segment"}


def find(task: str) -> Any:
    """The module of a task.

    Raises:
        UserError: there is no such task, or a package that it needs is not installed.
    """
    if task not in EXTRAS:
        raise UserError(f"the task must be one of {', '.join(EXTRAS)}, got {task}; correct it")
    try:
        return importlib.import_module(f"slideformer.cli.tasks.{task}")
    except ImportError as error:
        raise missing(task, error) from error


def find_check(task: str) -> Any:
    """The function ``check_data`` of a task.

    Raises:
        UserError: a package that it needs is not installed.
    """
    try:
        return importlib.import_module(f"slideformer.tasks.{task}.check").check_data
    except ImportError as error:
        raise missing(task, error) from error


def missing(task: str, error: ImportError) -> UserError:
    """What is said of a package that is not installed."""
    return UserError(
        f"this needs {error.name}, which is not installed; pip install 'slideformer[{EXTRAS[task]}]'"
    )


def of_run(run: Path, arguments: argparse.Namespace, own: Mapping[str, tuple[str, ...]]) -> Any:
    """The module of a run's task.

    Args:
        run: folder of a finished run.
        arguments: as they were given.
        own: options of the verb that only one task has, by task, None where not given.

    Raises:
        UserError: the folder holds no model, or an option is another task's.
    """
    from slideformer.models.dense.saved import task_of

    task = task_of(run)
    for other, options in own.items():
        for option in options:
            if other != task and getattr(arguments, option) is not None:
                words = "--" + option.replace("_", "-")
                raise UserError(f"{words} goes with a run of {other}, got {run}, one of {task}; leave it out")
    return find(task)


def refuse_nothing_read(unreadable: int, count: int) -> None:
    """Tell how many of some pictures could not be read.

    Raises:
        UserError: none could.
    """
    if unreadable == count:
        raise UserError(f"there must be a picture that can be read, got {unreadable} unreadable ones")
    if unreadable:
        print(f"{unreadable} of {count} pictures were unreadable", file=sys.stderr)
