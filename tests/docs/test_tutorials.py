# SPDX-License-Identifier: Apache-2.0
"""The commands of the tutorials have the options that they give."""

from __future__ import annotations

import importlib
import re
import shlex
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path

import pytest

from slideformer.cli.main import Parser, main

TUTORIALS = sorted((Path(__file__).parents[2] / "docs" / "tutorials").glob("*.md"))


def commands(page: Path) -> list[list[str]]:
    """The words after `slideformer` of every command of a page."""
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
    lines = blocks.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] for line in words if line and line[0] == "slideformer"]


def help_of_training(task: list[str]) -> str:
    """All that `slideformer train` takes for a task: the short names, then every option."""
    printed = StringIO()
    for help_option in ("--help", "--help-all"):
        with redirect_stdout(printed), suppress(SystemExit):
            main(["train", *task, help_option])
    return printed.getvalue()


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.name)
def test_every_command_of_a_tutorial_is_understood(page: Path) -> None:
    assert commands(page)
    for verb, *words in commands(page):
        if verb != "train":
            module = importlib.import_module(f"slideformer.cli.{verb.replace('-', '_')}")
            parser = Parser(prog=verb)
            module.add_arguments(parser)
            parser.parse_args(words)  # an error of another class than SystemExit names the word


@pytest.mark.parametrize("page", ["detection.md", "photos.md"])
def test_every_option_of_a_training_exists(page: str) -> None:
    trainings = [words for verb, *words in commands(TUTORIALS[0].parent / page) if verb == "train"]
    assert trainings
    for words in trainings:
        known = help_of_training(words[:1] if words[0] in ("detect", "segment") else [])
        options = [word for word in words if word.startswith("--")]
        assert options
        assert [option for option in options if not re.search(rf"{option}\b", known)] == []
