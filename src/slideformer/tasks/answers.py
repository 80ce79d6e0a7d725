# SPDX-License-Identifier: Apache-2.0
"""A file that gets the answers of a prediction line by line, as JSON or CSV, and can be continued."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from slideformer.errors import UserError
from slideformer.files import regular_file
from slideformer.runs import Run
from slideformer.tasks.results import Classification, Result, Segmentation, Unreadable

T = TypeVar("T")

# The beginning of a record of JSON: up to the path, the path, and by task up to the answer.
BEGIN, PATH = '{"path": "', re.compile(r'\{"path": "(?:[^"\\]|\\.)*"')
ENTRIES = {"classify": ', "classes": [', "detect": ', "detections": [', "segment": ', "classes": {'}
ERROR = ', "error": "'


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
        own = [len(result.labels), json.dumps(plain(result)["detections"])]
    return [result.path, "", *own]


def plain(result: Result) -> dict[str, Any]:
    """A result as plain values; without the number of the image, which may be another's in another call."""
    values = result.to_dict()
    for row in values.get("detections", ()):
        del row["image_id"]
    return values


def as_csv(row: Sequence[object]) -> str:
    """A record of CSV, which is several lines where a name is."""
    text = io.StringIO()
    csv.writer(text).writerow(row)
    return text.getvalue()


def csv_rows(text: str, *, strict: bool) -> list[list[str]]:
    """The records in a text of CSV, whose cells may be of any length."""
    usual = csv.field_size_limit()
    csv.field_size_limit(max(usual, len(text)))
    try:
        return list(csv.reader(io.StringIO(text, newline=""), strict=strict))
    finally:
        csv.field_size_limit(usual)


def read_csv(record: str, entry: str) -> tuple[Any, Any]:
    """The path and the error in a record of CSV."""
    ((path, error, *_),) = csv_rows(record, strict=True)
    return path, error


def read_json(record: str, entry: str) -> tuple[Any, Any]:
    """The path and the error in a record of JSON; ValueError for another's record."""
    values = json.loads(record) if begins_json(record, entry) else {}
    if len(values) != 2:
        raise ValueError(f"a record must have a path and one entry, got {record!r}")
    return values["path"], values.get("error", "")


def begins_json(text: str, entry: str) -> bool:
    """Whether a record of JSON may begin like this."""
    path = PATH.match(text)
    if path is None:
        return agree(text, BEGIN)
    return any(agree(text[path.end() :], following) for following in (entry, ERROR))


def unfinished_json(text: str, entry: str) -> bool:
    """Whether a record of JSON may have been cut off to this, perhaps by no more than its line break."""
    try:
        json.loads(text)
    except ValueError:
        return begins_json(text, entry)
    return bool(read_json(text, entry))


def agree(one: str, other: str) -> bool:
    """Whether one of two texts begins with the other."""
    return one.startswith(other) or other.startswith(one)


@dataclass(frozen=True)
class Format:
    """A form of the file.

    Attributes:
        head: the first record, from the names of the columns; empty for none.
        begin: the first characters of the file, from the same.
        record: of a result, for so many columns.
        read: path and error in a record, of a task with such an entry in JSON; ValueError if it is not one.
        unfinished: whether the end of a file may be a record that was being written, of the same task.
        quoted: whether a line break between double quotes ends no record.
    """

    head: Callable[[Sequence[str]], str]
    begin: Callable[[Sequence[str]], str]
    record: Callable[[Result, int], str]
    read: Callable[[str, str], tuple[Any, Any]]
    unfinished: Callable[[str, str], bool]
    quoted: bool


# By the ending of the file's name.
FORMATS = {
    ".jsonl": Format(
        head=lambda names: "",
        begin=lambda names: BEGIN,
        record=lambda result, width: json.dumps(plain(result)) + "\n",
        read=read_json,
        unfinished=unfinished_json,
        quoted=False,
    ),
    ".csv": Format(
        head=as_csv,
        begin=as_csv,
        record=lambda result, width: as_csv([*cells(result), *width * [""]][:width]),
        read=read_csv,
        unfinished=lambda text, entry: len(csv_rows(text, strict=False)) <= 1,
        quoted=True,
    ),
}


class AnswerFile:
    """A file of answers, written as they come: after an interruption it has every answer that was given.

    Args:
        file: ending in `FORMATS`; it is created by the first answer.
        run: that answers.
        top: how many classes of a classifier CSV lists.
        resume: whether to continue the file if it exists; a last record that is not complete is removed.

    Attributes:
        done: path of each image that has an answer, and why it could not be read; empty if it could.

    Raises:
        UserError: the file exists and is not to be continued, or has something else than answers of this
            task, in CSV with the same columns.
    """

    def __init__(self, file: Path, run: Run, top: int, *, resume: bool) -> None:
        self.file, self.names, self.entry = file, columns(run, top), ENTRIES[run.task]
        self.format = FORMATS[file.suffix.lower()]
        self.done: dict[str, str] = {}
        if file.exists():
            regular_file(file)
            if not resume:
                raise UserError(
                    f"{file} exists already; add `resume` to continue it, or choose another `output`"
                )
            self.done = self.read()
        file.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> dict[str, str]:
        """Paths and errors in the file, from whose end a record that is not complete is removed."""
        head, begin = as_bytes(self.format.head(self.names)), as_bytes(self.format.begin(self.names))
        done, end = dict[str, str](), 0
        with self.file.open("r+b") as opened:
            if not begin.startswith(opened.read(len(begin))):
                raise self.foreign()
            opened.seek(0)
            for record in records(opened, quoted=self.format.quoted):
                if end or not head:
                    path, error = self.own(self.format.read, record)
                    if not (isinstance(path, str) and isinstance(error, str)):
                        raise self.foreign()
                    done[path] = error
                end += len(record)
            opened.seek(end)
            if (end or not head) and not self.own(self.format.unfinished, opened.read()):
                raise self.foreign()
            opened.truncate(end)
        return done

    def own(self, read: Callable[[str, str], T], content: bytes) -> T:
        """Read a part of the file, which must be one of these answers."""
        try:
            return read(content.decode("utf-8", "surrogateescape"), self.entry)
        except (ValueError, csv.Error) as error:
            raise self.foreign() from error

    def foreign(self) -> UserError:
        """The error for a file of something else."""
        return UserError(
            f"{self.file} must have answers of this task, in CSV with the same columns, to be continued, but "
            "has something else; choose another `output`"
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
