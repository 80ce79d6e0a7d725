# SPDX-License-Identifier: Apache-2.0
"""Numbers of options have ranges, words of options are those of the tables."""

from __future__ import annotations

import pytest

from slideformer import deploy
from slideformer.cli import ranges
from slideformer.cli.main import main

OUT_OF_RANGE = {
    "threads": (
        "verify f --threads 99999999999",
        "--threads must be a whole number from 1 to 1024, got '999",
    ),
    "no threads": ("verify f --threads 0", "--threads must be a whole number from 1 to 1024, got '0'"),
    "threads, limits lifted": (
        "verify f --threads 99999 --no-limits",
        "--threads must be a whole number from",
    ),
    "a side": ("export m --to onnx --size 99999x99999", "--size must be HxW of at most 4194304 pixels"),
    "a long side": (f"verify f --size {10**20}", "--size must be HxW in pixels, such as 224x320, got"),
    "classes": ("export m --to onnx --num-classes 0", "--num-classes must be a whole number from 1 to"),
    "1e20": ("backends --size 1e20", "--size must be a whole number from 1 to 4096, got '1e20'"),
    "5000 digits": (
        f"backends --batch {'9' * 5000}",
        "--batch must be a whole number from 1 to 65536, got '99",
    ),
    "heads": ("compare --heads 0", "--heads must be a whole number from 1 to 1024, got '0'"),
    "a query": ("compare --query 0 -1", "--query must be a whole number from 0 to"),
    "rounds": ("bench operator --rounds 10001", "from 1 to 10000, got '10001'; add --no-limits for more"),
    "a batch of models": ("bench model --batch 4096", "--batch times --size squared must be at most"),
    "scenes": ("scenes d --train 1000000000000", "--train must be a whole number from 1 to 100000"),
    "no score": ("predict r i --score nan", "--score must be a number from 0 to 1, got 'nan'"),
    "a large score": ("predict r i --score 1e400", "--score must be a number from 0 to 1, got '1e400'"),
    "no class": ("predict r i --top 0", "--top must be a whole number from 1 to"),
    "no window": ("predict r i --window 0 --stride 0", "--window must be a whole number from 1 to"),
    "no batch": ("evaluate r --data d --batch-size 0", "--batch-size must be a whole number from 1 to"),
    "readers": ("evaluate r --data d --workers -1", "--workers must be a whole number from 0 to"),
    "no epoch": ("demo --epochs 0", "--epochs must be a whole number from 1 to 10000, got '0'"),
}


@pytest.mark.parametrize(("words", "message"), OUT_OF_RANGE.values(), ids=OUT_OF_RANGE)
def test_a_number_out_of_range_is_one_line(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: --")
    assert error.count("\n") == 1
    assert len(error) < 250


def test_the_upper_bound_of_a_size_is_lifted_by_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends", "--size", "5000"]) == 2
    assert "add --no-limits for more" in capsys.readouterr().err
    assert main(["backends", "--size", "5000", "--no-limits"]) == 0
    assert "5000, 5000" in capsys.readouterr().out


def test_the_words_of_options_are_those_of_their_tables() -> None:
    assert tuple(deploy.RUNTIMES) == ranges.RUNTIMES
    assert deploy.PRECISIONS == ranges.PRECISIONS
