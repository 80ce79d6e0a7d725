# SPDX-License-Identifier: Apache-2.0
"""`slideformer train`: Lightning's command line, in our words."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from slideformer.errors import UserError

if TYPE_CHECKING:
    from slideformer.tasks.training.task import Task

# What can be trained: where its row is, and the extra that its packages come with.
TASKS = {
    "classify": ("slideformer.tasks.classify.task", "CLASSIFY", "train"),
}

EXAMPLES = """\
usage: slideformer train [TASK] --model NAME --data SOURCE --output RUN [options]

  slideformer train --config digits --output runs/digits
  slideformer train --model slide_swin_tiny --data DIR --output runs/mine --trainer.max_epochs 50
  slideformer train --config imagenet_slide_swin_tiny --data DIR --output runs/imagenet --trainer.devices 8
  slideformer train --resume runs/mine

SOURCE is a folder with train/ and val/, each with a folder of images a class; `digits`; or a source of
timm such as wds/NAME. --config takes a YAML file or a recipe: {recipes}.
Every value of a recipe can be overridden by its path, as in --model.optimise.lr 1e-3.
"""


def run_words(words: Sequence[str]) -> int:
    """Train; the words are parsed by Lightning."""
    try:
        from slideformer.tasks.training.command_line import task_of
        from slideformer.tasks.training.fit import fit
    except ImportError as error:
        raise UserError(
            f"training needs {error.name}, which is not installed; pip install 'slideformer[train]'"
        ) from error
    named = bool(words) and words[0] in TASKS
    task = find_task(words[0] if named else task_of(words))
    words = words[1:] if named else words
    if {"-h", "--help"} & set(words):
        print(EXAMPLES.format(recipes=", ".join(task.recipes())))
    # A scheduler's polite kill is told like Ctrl-C: the last whole epoch is kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    fit(task, words)
    return 0


def find_task(name: str) -> Task:
    """The row of a task.

    Raises:
        UserError: there is no such task, or a package that it needs is not installed.
    """
    if name not in TASKS:
        raise UserError(f"the task must be one of {', '.join(TASKS)}, got {name}; correct it")
    module, row, extra = TASKS[name]
    try:
        task: Task = getattr(importlib.import_module(module), row)
    except ImportError as error:
        raise UserError(
            f"training needs {error.name}, which is not installed; pip install 'slideformer[{extra}]'"
        ) from error
    return task
