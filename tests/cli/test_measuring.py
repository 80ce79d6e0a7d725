# SPDX-License-Identifier: Apache-2.0
"""The command that measures the same again is one that a shell takes."""

from __future__ import annotations

import shlex
from argparse import Namespace

import pytest

from slideformer.cli.measuring import ENVIRONMENT, command, option


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (option("--size", [56, 28]), ["--size", "56", "28"]),
        (option("--batch", 8), ["--batch", "8"]),
        (option("--batch", 8, usual=8), []),
        (option("--plain", True), ["--plain"]),
        (option("--plain", False), []),
        (option("--to", None), []),
    ],
)
def test_an_option_has_its_words(words: list[str], expected: list[str]) -> None:
    assert words == expected


def test_words_and_variables_are_quoted_for_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLIDEFORMER_CPU_ISA", "a b")
    line = command(["bench", "operator", "--only", "authors' form"], Namespace(rounds=3))
    assert line.startswith("SLIDEFORMER_CPU_ISA='a b' slideformer bench operator --only ")
    words = ["slideformer", "bench", "operator", "--only", "authors' form", "--rounds", "3"]
    assert shlex.split(line)[1:] == words
