# SPDX-License-Identifier: Apache-2.0
"""`slideformer models`."""

from __future__ import annotations

import argparse
import json

import pytest
import timm

from slideformer.cli import models
from slideformer.errors import UserError
from slideformer.models import count


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    models.add_arguments(parser)
    return models.run(parser.parse_args(words))


def test_names_are_printed_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert "slide_swin_nano\n" in capsys.readouterr().out
    assert run("*_swin_tiny") == 0
    assert capsys.readouterr().out == "slide_swin_tiny\n"


def test_counts_are_printed_next_to_the_papers(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("slide_swin_tiny", "slide_swin_nano", "slide_pvt_v2_b1"):
        run(name, "--counts")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["slide_swin_tiny", "28.309", "28.297", "4.565", "29", "-2.4", "4.6", "-0.8", "82.3"] in lines
    assert ["slide_swin_nano", "1.688", "1.685", "0.020", "-", "-", "-", "-", "-"] in lines
    assert ["slide_pvt_v2_b1", "13.005", "12.982", "2.205", "13", "+0.0", "2.2", "+0.2", "79.5"] in lines


def test_figures_read_off_a_plot_have_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    run("slide_pvt_medium", "--counts")
    out = capsys.readouterr().out
    assert ["slide_pvt_medium", "42.451", "42.411", "6.824", "-", "-", "6.81", "+0.2", "82.9"] in [
        line.split() for line in out.splitlines()
    ]
    assert "slide_pvt_medium: read off the paper's plot" in out


@pytest.mark.slow
def test_a_plain_hosts_figures_are_compared_with_the_plain_host(capsys: pytest.CaptureFixture[str]) -> None:
    run("slide_mvit_v2_tiny", "--counts", "--json")
    (row,) = json.loads(capsys.readouterr().out)
    host = count(timm.create_model("slide_mvit_v2_tiny", slide_stages=()))
    assert row["paper_of_host"]
    assert row["multiply_adds_off_percent"] == pytest.approx(100 * (host.multiply_adds / 4.7e9 - 1))
    run("slide_mvit_v2_tiny", "--counts")
    assert "82.3*\n" in capsys.readouterr().out


def test_the_table_is_printed_as_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    run("slide_mvit_v2_tiny", "--counts", "--markdown")
    head, rule, row, *rest = capsys.readouterr().out.splitlines()
    assert head.startswith("| model | parameters M | merged M |")
    assert rule.startswith("|---|---:|")
    assert row.endswith("| 82.3\\* |")
    assert any(line.startswith("- slide_mvit_v2_tiny: the plain host's") for line in rest)


def test_markdown_without_counts_is_rejected() -> None:
    with pytest.raises(UserError, match="add --counts"):
        run("--markdown")


def test_counts_are_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    run("*_swin_tiny", "--counts", "--json")
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["model"], row["multiply_adds"], row["paper_top1"]) == ("slide_swin_tiny", 4564626432, 82.3)


def test_a_filter_that_fits_nothing_is_rejected() -> None:
    with pytest.raises(UserError, match=r"no model fits 'resnet50'; there are .*slide_swin_tiny"):
        run("resnet50")
