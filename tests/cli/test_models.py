# SPDX-License-Identifier: Apache-2.0
"""`slideformer models`."""

from __future__ import annotations

import argparse
import json

import pytest

from slideformer.cli import models
from slideformer.errors import UserError


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    models.add_arguments(parser)
    return models.run(parser.parse_args(words))


def test_names_are_printed_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert "slide_swin_nano\n" in capsys.readouterr().out
    assert run("*_tiny") == 0
    assert capsys.readouterr().out == "slide_swin_tiny\n"


def test_counts_stand_beside_the_papers(capsys: pytest.CaptureFixture[str]) -> None:
    run("--counts")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["slide_swin_tiny", "28.309", "28.297", "4.565", "29", "-2.4", "4.6", "-0.8", "82.3"] in lines
    assert ["slide_swin_nano", "1.688", "1.685", "0.020", "-", "-", "-", "-", "-"] in lines


def test_counts_are_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    run("*_tiny", "--counts", "--json")
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["model"], row["multiply_adds"], row["paper_top1"]) == ("slide_swin_tiny", 4564626432, 82.3)


def test_a_filter_that_fits_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="no model fits 'resnet50'; there are slide_swin_base"):
        run("resnet50")
