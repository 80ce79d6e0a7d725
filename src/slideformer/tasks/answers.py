# SPDX-License-Identifier: Apache-2.0
"""A file that gets the answers of a prediction line by line, as JSON or CSV, and can be continued."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from slideformer.errors import UserError
from slideformer.files import regular_file
from slideformer.runs import Run
from slideformer.tasks.results import Classification, Result, Segmentation, Unreadable


def columns(run: Run, top: int) -> list[str]:
    """The names of CSV's columns for a run.

    Args:
        run: that answers.
        top: how many classes of a classifier are listed.
    """
    if run.task == "classify":
        count = min(top, run.blueprint.num_classes or top)
        own = [f"{word}_{place}" for place in range(1, count + 1) for word in ("class", "probability")]
    elif run.task == "segment":
        own = [f"share_{name}" for name in run.facts.names()]
    else:
        own = ["objects", "detections"]
    return ["path", "error", *own]


def cells(result: Result) -> list[object]:
    """The cells of CSV's record of a result; of an image that was left out only the first two."""
    own: Sequence[object]
    if isinstance(result, Unreadable):
        return [result.path, result.error]
    if isinstance(result, Classification):
        own = [cell for pair in result.classes for cell in pair]
    elif isinstance(result, Segmentation):
        counts = np.bincount(result.label_map.ravel(), minlength=len(result.class_names))
        own = (counts / result.label_map.size).tolist()
    else:
        own = [len(result.labels), json.dumps(result.to_dict()["detections"])]
    return [result.path, "", *own]


def as_csv(row: Sequence[object]) -> str:
    """A record of CSV, which is several lines where a name is."""
    text = io.StringIO()
    csv.writer(text).writerow(row)
    return text.getvalue()


@dataclass(frozen=True)
class Format:
    """A form of the file.

    Attributes:
        head: the first record, from the names of the columns; empty for none.
        begin: the first characters of the file, from the same.
        record: of a result, for so many columns.
        path: the path of the image that a record is of.
        quoted: whether a line break between double quotes ends no record.
    """

    head: Callable[[Sequence[str]], str]
    begin: Callable[[Sequence[str]], str]
    record: Callable[[Result, int], str]
    path: Callable[[str], Any]
    quoted: bool


# By the ending of the file's name.
FORMATS = {
    ".jsonl": Format(
        head=lambda names: "",
        begin=lambda names: '{"path": "',
        record=lambda result, width: json.dumps(result.to_dict()) + "\n",
        path=lambda record: json.loads(record)["path"],
        quoted=False,
    ),
    ".csv": Format(
        head=as_csv,
        begin=as_csv,
        record=lambda result, width: as_csv([*cells(result), *width * [""]][:width]),
        path=lambda record: next(csv.reader(io.StringIO(record, newline=""), strict=True))[0],
        quoted=True,
    ),
}


class AnswerFile:
    """A file of answers, written as they come: after an interruption it has every answer that was given.

    Args:
        file: ending in `FORMATS`; it is created by the first answer.
        names: of CSV's columns.
        resume: whether to continue the file if it exists; a last record that is not complete is removed.

    Attributes:
        done: paths of the images that have an answer.

    Raises:
        UserError: the file exists and is not to be continued, or is not one of these answers.
    """

    def __init__(self, file: Path, names: Sequence[str], *, resume: bool) -> None:
        self.file, self.names = file, names
        self.format = FORMATS[file.suffix.lower()]
        self.done: frozenset[str] = frozenset()
        if file.exists():
            regular_file(file)
            if not resume:
                raise UserError(
                    f"{file} exists already; add `resume` to continue it, or choose another `output`"
                )
            self.done = frozenset(self.read())
        file.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> list[str]:
        """The paths in the file, from whose end a record that is not complete is removed."""
        head, begin = as_bytes(self.format.head(self.names)), as_bytes(self.format.begin(self.names))
        paths, end = list[str](), 0
        with self.file.open("r+b") as opened:
            if not begin.startswith(opened.read(len(begin))):
                raise self.foreign()
            opened.seek(0)
            for record in records(opened, quoted=self.format.quoted):
                if end or not head:
                    paths.append(self.path_in(record))
                end += len(record)
            opened.truncate(end)
        return paths

    def path_in(self, record: bytes) -> str:
        """The path of the image that a record is of."""
        try:
            path = self.format.path(record.decode("utf-8", "surrogateescape"))
        except (ValueError, LookupError, TypeError, StopIteration, csv.Error) as error:
            raise self.foreign() from error
        if not isinstance(path, str):
            raise self.foreign()
        return path

    def foreign(self) -> UserError:
        """The error for a file of something else."""
        return UserError(
            f"{self.file} must have answers of the same task and options to be continued, but has others; "
            "choose another `output`"
        )

    def add(self, result: Result) -> None:
        """Write an answer, which is in the file when this returns."""
        new = not self.file.exists() or not self.file.stat().st_size
        head = self.format.head(self.names) if new else ""
        with self.file.open("ab", buffering=0) as opened:
            opened.write(as_bytes(head + self.format.record(result, len(self.names))))


def as_bytes(text: str) -> bytes:
    """Text in UTF-8; bytes of file names that are not text stay as they are."""
    return text.encode("utf-8", "surrogateescape")


def records(file: BinaryIO, *, quoted: bool) -> Iterator[bytes]:
    """The complete records of a file.

    Args:
        file: at its beginning.
        quoted: whether a line break between double quotes ends no record.
    """
    record = b""
    for line in file:
        record += line
        if line.endswith(b"\n") and not (quoted and record.count(b'"') % 2):
            yield record
            record = b""
