# SPDX-License-Identifier: Apache-2.0
"""What models can do: a row a task."""

from __future__ import annotations

from slideformer_runtime.errors import UserError
from slideformer_runtime.tasks.classify import CLASSIFY
from slideformer_runtime.tasks.detect import DETECT
from slideformer_runtime.tasks.segment import SEGMENT
from slideformer_runtime.tasks.task import Options, Outputs, Task

__all__ = ["TASKS", "Options", "Outputs", "Task", "find_task"]

TASKS = {task.name: task for task in (CLASSIFY, SEGMENT, DETECT)}


def find_task(name: str) -> Task:
    """The row of a task.

    Raises:
        UserError: there is none of that name.
    """
    if name not in TASKS:
        raise UserError(
            f"a file's task must be one of {', '.join(TASKS)}, got {name}; update slideformer-runtime"
        )
    return TASKS[name]
