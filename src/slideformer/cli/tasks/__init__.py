# SPDX-License-Identifier: Apache-2.0
"""What a verb does for each task; the verb finds the task in the folder of the run."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slideformer.cli.measuring import progress
from slideformer.console import print_line
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
    if error.name is None:  # a library's own words, of a package that an option needs
        return UserError(f"this needs a package that is not installed: {' '.join(str(error).split())}")
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


def tell_unreadable(path: Path | str, error: str, as_json: bool) -> None:
    """Tell of a picture that could not be read, and as JSON as well where the answer is."""
    print_line(f"left out, unreadable: {path} ({error})", to_stderr=True)
    if as_json:
        print(json.dumps({"path": str(path), "error": error}))


def output_folder(arguments: argparse.Namespace) -> Path:
    """Where pictures are drawn.

    Raises:
        UserError: it is a file.
    """
    folder: Path = arguments.run / "predictions" if arguments.output is None else arguments.output
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output must be a folder, got the file {folder}; choose another place")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def picture_files(paths: Sequence[Path], folder: Path, *more: str) -> dict[Path, Path]:
    """A PNG in a folder for each picture: of its name, with a number where two have the same.

    Args:
        paths: of the pictures.
        folder: for what is drawn.
        more: endings of names of further PNGs that come with each.

    Raises:
        UserError: a PNG would replace one of the pictures.
    """
    taken: set[str] = set()
    files = {}
    for path in paths:
        name, number = path.stem, 1
        while not taken.isdisjoint(names := [name, *(name + ending for ending in more)]):
            number += 1
            name = f"{path.stem}-{number}"
        taken.update(names)
        files[path] = folder / f"{name}.png"
    pictures = {path.resolve() for path in paths}
    for name in sorted(taken):
        file = folder / f"{name}.png"
        if file.resolve() in pictures:
            raise UserError(
                f"what is drawn must not replace a picture, got {file} for both; choose another --output"
            )
    return files


def told(things: str) -> Callable[[int, int], None]:
    """What tells a terminal how far a work is, and clears its line at the end."""
    return lambda done, total: progress("" if done >= total else f"{done} of {total} {things}")
