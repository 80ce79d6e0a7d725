# SPDX-License-Identifier: Apache-2.0
"""`slideformer backends` prints what `explain` says."""

from __future__ import annotations

import argparse
import json

import pytest

from slideformer import backends
from slideformer.cli import backends as verb
from slideformer.errors import UserError
from slideformer.ops.cpu import library


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return parser.parse_args(words)


def test_every_backend_has_a_line_and_one_is_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert verb.run(parsed("--size", "14", "20")) == 0
    out = capsys.readouterr().out
    assert "(8, 14, 20, 3, 32)" in out
    assert all(row.name in out for row in backends())
    assert out.count("> ") == 1


def test_json_holds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    verb.run(parsed("--json", "--plain"))
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [row.name for row in backends()]
    assert [row["name"] for row in rows if row["chosen"]] == ["matmul" if library.missing() else "cpu"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kernel-size", "4"), "kernel_size must be odd, got 4; use 5"),
        (("--size", "1", "2", "3"), "--size takes one or two numbers, got 3"),
    ],
)
def test_sizes_that_make_no_call_are_an_error(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        verb.run(parsed(*words))
