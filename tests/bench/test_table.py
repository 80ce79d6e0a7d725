# SPDX-License-Identifier: Apache-2.0
"""A table reads well in a terminal and is valid Markdown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slideformer.bench.table import Table, mebibytes, milliseconds, percent, span

TABLE = Table(
    headings=["model", "ms", "runs in"],
    rows=[["tiny", "9.5", "ONNX"], ["enormous", "12.0", "-"]],
    conditions="on a machine",
    notes=["a left out"],
    words=("runs in",),
)


def test_text_aligns_words_left_and_figures_right() -> None:
    assert TABLE.text().splitlines() == [
        "model       ms  runs in",
        "tiny       9.5  ONNX",
        "enormous  12.0  -",
        "",
        "on a machine",
        "a left out",
    ]


def test_markdown_says_the_alignment_and_lists_the_notes() -> None:
    assert TABLE.markdown().splitlines() == [
        "| model | ms | runs in |",
        "|---|---:|---|",
        "| tiny | 9.5 | ONNX |",
        "| enormous | 12.0 | - |",
        "",
        "on a machine",
        "",
        "- a left out",
    ]


def test_without_notes_the_conditions_are_last() -> None:
    table = replace(TABLE, notes=[])
    assert table.text().endswith("\n\non a machine")
    assert table.markdown().endswith("\n\non a machine")


def test_markdown_escapes_what_would_be_read_as_markup_but_in_code() -> None:
    table = Table(["a"], [["82.3*"], ["x|y"]], "*: the host's; `bench --only '*'`")
    assert table.markdown().splitlines()[2:] == [
        r"| 82.3\* |",
        r"| x\|y |",
        "",
        r"\*: the host's; `bench --only '*'`",
    ]
    assert "82.3*\n" in table.text()


def test_a_row_of_another_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        Table(["a", "b"], [["1"]], "").text()


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (milliseconds(12.34), "12.3"),
        (milliseconds(0.01234), "0.012"),
        (mebibytes(None), "-"),
        (mebibytes(-0.5), "0.0"),
        (span((1.0, 2.25)), "1.0-2.2"),
        (percent(1, 3), "33 %"),
    ],
)
def test_figures_have_digits_enough(cell: str, shown: str) -> None:
    assert cell == shown
