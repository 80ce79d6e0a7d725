# SPDX-License-Identifier: Apache-2.0
"""`slideformer compare` prints, writes and draws the patterns, or says in one line why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from slideformer.bench import restore
from slideformer.bench.patterns import PATTERNS
from slideformer.cli.main import main

SMALL = ["compare", "--size", "6", "--dim", "8", "--batch", "1", "--rounds", "1"]


def test_every_pattern_is_printed_written_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, picture = tmp_path / "compare.json", tmp_path / "compare.png"
    assert main([*SMALL, "--json", str(file), "--plot", str(picture)]) == 0
    out = capsys.readouterr().out
    figures = json.loads(file.read_text())
    assert figures["kind"] == "compare"
    assert figures["maps"]["query"] == [3, 3]
    assert [row["name"] for row in figures["rows"]] == [pattern.name for pattern in PATTERNS]
    for row in figures["rows"]:
        assert f"\n{row['name']}  " in out
        assert row["median_ms"] > 0
    assert figures["conditions"]["command"] in out
    with Image.open(picture) as image:
        assert image.format == "PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compare.json", "compare.png"]


def test_the_command_says_how_to_measure_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--query", "0", "5", "--only", "slide", "--dtype", "bfloat16", "--markdown"]
    file = tmp_path / "compare.json"
    assert main([*SMALL, *words, "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert (
        "slideformer compare --size 6 --dim 8 --heads 2 --batch 1 --query 0 5 --dtype bfloat16 "
        "--only slide --rounds 1`; sees and reach: of the query in row 0, column 5, counted from 0\n"
    ) in out
    assert out.startswith("| pattern | as in | parameters | multiply-adds M |")
    assert "\n|---|---|---:|" in out
    figures = json.loads(file.read_text())
    report = restore(figures)
    assert report.table.markdown() == out.rstrip("\n")
    assert json.loads(json.dumps(report.figures)) == figures
    assert figures["maps"]["query"] == [0, 5]
    assert (figures["rows"][0]["sees"], figures["rows"][0]["reach"]) == (4, 1)
    assert "slide    Slide-Transformer" in report.table.text()


def test_a_pattern_that_the_heads_do_not_fit_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--dim", "9", "--heads", "3", "--only", "cross", "slide"]) == 0
    out = capsys.readouterr().out
    assert "\ncross window left out: half of its heads look each way, and 3 cannot be halved\n" in out
    assert "\nslide  " in out


BAD = [
    (["--size", "0"], "--size must be a whole number from 1 to "),
    (["--dim", "-4"], "--dim must be a whole number from 1 to "),
    (["--heads", "0"], "--heads must be a whole number from 1 to "),
    (["--batch", "0"], "--batch must be a whole number from 1 to "),
    (["--rounds", "0"], "--rounds must be a whole number from 1 to "),
    (["--heads", "3"], "--dim must be a multiple of --heads, got 8 and 3; use --dim 9"),
    (["--query", "6", "0"], "--query's row must be from 0 to 5, got 6"),
    (["--query", "0", "-1"], "--query must be a whole number from 0 to "),
    (["--only", "linear"], "no pattern is left; --only takes parts of global"),
    (["--only", "cross", "--dim", "3", "--heads", "3"], "no pattern is left; cross window left out"),
    (["--device", "nowhere"], "--device must be one that is here, got 'nowhere'"),
    (["--dtype", "float128"], "argument --dtype: invalid choice: 'float128'"),
    (["--plot", "nowhere/patterns.png"], "--plot must be in a folder that exists"),
    (["--plot", "."], "--plot must be a file, got the folder .; name a file in it"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_a_mistake_is_one_line_and_writes_nothing(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, "--json", "compare.json", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {message}")
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
