# SPDX-License-Identifier: Apache-2.0
"""A file of answers has complete records whenever the work ends, and every name as it is."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from slideformer.errors import UserError
from slideformer.runs import Blueprint, Run
from slideformer.tasks.answers import FORMATS, AnswerFile
from slideformer.tasks.results import Classification, Detections, Result, Segmentation, Unreadable

NAMES = ('comma, and "quotes"', "line\nbreak\r", "path")
PATHS = ("a.jpg", 'b, "c"\n.jpg', "d\r\ne.jpg", os.fsdecode(b"\xff.jpg"), "ölbaum.jpg")


def run(task: Any) -> Run:
    return Run(model=nn.Module(), blueprint=Blueprint(task, "x", 3), class_names=NAMES)


def classified(path: str) -> Classification:
    return Classification(path, NAMES, np.array([0.125, 0.75, 0.125]), 2)


def found(path: str, count: int = 1) -> Detections:
    boxes = np.tile(np.array([[1, 2, 5, 9]], dtype=np.float32), (count, 1))
    scores, labels = np.full(count, 0.5, dtype=np.float32), np.full(count, 2)
    return Detections(path, NAMES, (7, 8, 9), boxes, scores, labels, image_id=3)


def segmented(path: str) -> Segmentation:
    return Segmentation(path, NAMES, np.array([[0, 0, 2, 0]], dtype=np.uint8))


RESULTS = {"classify": classified, "detect": found, "segment": segmented}


def read_csv(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as opened:
        return list(csv.reader(opened, strict=True))


def write(file: Path, results: list[Result], *, resume: bool = False, task: str = "classify") -> None:
    answers = AnswerFile(file, run(task), 2, resume=resume)
    for result in results:
        if result.path not in answers.done:
            answers.add(result)


def test_csv_keeps_every_name(tmp_path: Path) -> None:
    write(tmp_path / "found.csv", [classified(path) for path in PATHS])
    head, *rows = read_csv(tmp_path / "found.csv")
    assert head == ["path", "error", "class_1", "probability_1", "class_2", "probability_2"]
    assert [row[0] for row in rows] == list(PATHS)
    assert {tuple(row[1:]) for row in rows} == {("", NAMES[1], "0.75", NAMES[0], "0.125")}


def test_json_lines_are_what_results_convert_to(tmp_path: Path) -> None:
    results: list[Result] = [*map(classified, PATHS), Unreadable("bad\n.jpg", "no image")]
    write(tmp_path / "found.jsonl", results)
    lines = (tmp_path / "found.jsonl").read_text(encoding="ascii").splitlines()
    assert [json.loads(line) for line in lines] == [result.to_dict() for result in results]


def test_csv_has_a_column_for_the_share_of_each_class_of_a_segmenter(tmp_path: Path) -> None:
    write(tmp_path / "found.csv", [segmented("a.jpg")], task="segment")
    head, row = read_csv(tmp_path / "found.csv")
    assert head == ["path", "error", *(f"share_{name}" for name in NAMES)]
    assert row == ["a.jpg", "", "0.75", "0.0", "0.25"]


def test_csv_has_the_objects_of_a_detector_as_json(tmp_path: Path) -> None:
    write(tmp_path / "found.csv", [found("a.jpg"), Unreadable("bad.jpg", "no image")], task="detect")
    head, row, bad = read_csv(tmp_path / "found.csv")
    assert (head, bad) == (["path", "error", "objects", "detections"], ["bad.jpg", "no image", "", ""])
    assert row[2] == "1"
    box = {"name": NAMES[1], "category_id": 8, "score": 0.5, "bbox": [1.0, 2.0, 4.0, 7.0]}
    assert json.loads(row[3]) == [box]


def test_objects_have_no_number_of_their_image_which_another_call_gives_to_another(tmp_path: Path) -> None:
    write(tmp_path / "found.jsonl", [found("a.jpg")], task="detect")
    (row,) = json.loads((tmp_path / "found.jsonl").read_text(encoding="ascii"))["detections"]
    assert list(row) == ["name", "category_id", "score", "bbox"]


@pytest.mark.parametrize("task", RESULTS)
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_cut_off_anywhere_is_continued_to_the_same_file(
    suffix: str, task: str, tmp_path: Path
) -> None:
    paths = PATHS if task == "classify" else PATHS[:2]
    results: list[Result] = [*map(RESULTS[task], paths), Unreadable("bad\n.jpg", 'no "image"')]
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    write(whole, results, task=task)
    content = whole.read_bytes()
    for length in range(len(content) + 1):
        cut.write_bytes(content[:length])
        write(cut, results, resume=True, task=task)
        assert cut.read_bytes() == content


def test_csv_with_more_objects_than_a_cell_usually_has_is_continued(tmp_path: Path) -> None:
    file, usual = tmp_path / "found.csv", csv.field_size_limit()
    write(file, [found("a.jpg", 2000)], task="detect")
    assert file.stat().st_size > usual
    assert AnswerFile(file, run("detect"), 2, resume=True).done == {"a.jpg": ""}
    assert csv.field_size_limit() == usual


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_done_has_the_errors_of_unreadable_images(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"found{suffix}"
    write(file, [classified("a.jpg"), Unreadable("bad.jpg", "no image")])
    done = AnswerFile(file, run("classify"), 2, resume=True).done
    assert done == {"a.jpg": "", "bad.jpg": "no image"}


@pytest.mark.parametrize("task", RESULTS)
@pytest.mark.parametrize("other", RESULTS)
@pytest.mark.parametrize("suffix", FORMATS)
def test_only_a_file_of_the_same_task_is_continued(
    suffix: str, other: str, task: str, tmp_path: Path
) -> None:
    file = tmp_path / f"found{suffix}"
    write(file, [RESULTS[other]("a.jpg")], task=other)
    before = file.read_bytes()
    if task == other:
        assert list(AnswerFile(file, run(task), 2, resume=True).done) == ["a.jpg"]
    else:
        with pytest.raises(UserError, match="must have answers of this task, in CSV with the same columns"):
            AnswerFile(file, run(task), 2, resume=True)
    assert file.read_bytes() == before


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_is_not_replaced(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"found{suffix}"
    write(file, [classified("a.jpg")])
    with pytest.raises(UserError, match="exists already; add `resume` to continue it, or choose another"):
        write(file, [classified("b.jpg")])


FOREIGN = {
    "another's CSV": (".csv", "name,age\n"),
    "other columns": (".csv", "path,error,class_1,probability_1\r\n"),
    "a broken record": (".csv", 'path,error,class_1,probability_1,class_2,probability_2\r\n"a"b\r\n'),
    "an object of something else": (".jsonl", '{"name": 3}\n'),
    "an object without its end": (".jsonl", '{"name": 3'),
    "no JSON": (".jsonl", '{"path": "a\n'),
    "an object of something else without a line break": (".jsonl", '{"path": "mine.jpg", "label": 3}'),
    "more than an answer without a line break": (".jsonl", '{"path": "a", "classes": [], "label": 3}'),
    "a part of an object of something else": (".jsonl", '{"path": "mine.jpg", "label": '),
    "an object after an answer": (".jsonl", '{"path": "a", "classes": []}\n{"path": "b", "label": 3}'),
    "several records after a stray quote": (
        ".csv",
        'path,error,class_1,probability_1,class_2,probability_2\r\na",,x,1,y,0\r\nb,,x,1,y,0\r\n',
    ),
    "a path that is not text": (".jsonl", '{"path": "a", "path": 3}\n'),
}


@pytest.mark.parametrize(("suffix", "text"), FOREIGN.values(), ids=FOREIGN)
def test_a_file_of_something_else_is_left_as_it_is(suffix: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / f"found{suffix}"
    file.write_bytes(text.encode())
    with pytest.raises(
        UserError, match="must have answers of this task, in CSV with the same columns, to be"
    ):
        AnswerFile(file, run("classify"), 2, resume=True)
    assert file.read_bytes() == text.encode()
