# SPDX-License-Identifier: Apache-2.0
"""A line a picture, for people or for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from slideformer_runtime.answers import Answer, LabelMap
from slideformer_runtime.errors import UserError, printable
from slideformer_runtime.label_files import LabelFiles
from slideformer_runtime.tasks import Task


def tell(answers: Iterable[Answer], task: Task, *, as_json: bool, files: LabelFiles | None = None) -> None:
    """Print each answer as it comes; what was left out is told on standard error and counted.

    Args:
        answers: to print.
        task: that they are of.
        as_json: whether to print for programs.
        files: to write label maps to; None to write none.

    Raises:
        UserError: there were pictures, and none could be answered.
    """
    count, left_out = 0, 0
    for answer in answers:
        count += 1
        if answer.error is not None:
            left_out += 1
            print(printable(f"left out: {answer.path} ({answer.error})"), file=sys.stderr)
        file = None
        if files is not None and isinstance(answer.found, LabelMap):
            file = files.write(answer.path, answer.found.labels)
        if as_json or answer.error is None:
            # At once, for whoever reads as we write.
            print(json_line(answer, task, file) if as_json else text_line(answer, task, file), flush=True)
    if count and left_out == count:
        raise UserError(f"there must be a picture that can be answered, got {count} that were left out")
    if left_out:
        print(f"{left_out} of {count} pictures were left out", file=sys.stderr)


def text_line(answer: Answer, task: Task, file: Path | None) -> str:
    """An answer for people."""
    written = "" if file is None else f"  -> {file}"
    return printable(f"{answer.path}  {task.words(answer.found)}{written}")


def json_line(answer: Answer, task: Task, file: Path | None) -> str:
    """An answer for programs."""
    if answer.error is not None:
        return json.dumps({"path": answer.path, "error": answer.error})
    labels = {} if file is None else {"labels": str(file)}
    return json.dumps({"path": answer.path, **task.values(answer.found), **labels})
