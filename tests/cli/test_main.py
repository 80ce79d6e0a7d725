# SPDX-License-Identifier: Apache-2.0
"""The verbs, and how a mistake, a bug and an interruption are told."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import pytest
import torch

from slideformer.cli import backends
from slideformer.cli.main import VERBS, main
from slideformer.errors import UserError
from slideformer.version import __version__


def test_without_words_the_verbs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {verb}" in out for verb in VERBS)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"slideformer {__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main([verb, "--help"])
    except SystemExit as stop:  # argparse's
        code = stop.code
    assert code == 0
    assert f"usage: slideformer {verb}" in capsys.readouterr().out
    module = importlib.import_module(f"slideformer.cli.{verb.replace('-', '_')}")
    assert hasattr(module, "run") or hasattr(module, "run_words")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "error: the first word must be a verb, got 'trian'; did you mean train?\n"),
        (["xyz"], "error: the first word must be a verb, got 'xyz'; `slideformer --help` lists them\n"),
        (["models", "--nonsense"], "error: unrecognized arguments: --nonsense; `slideformer models --help`"),
        (
            ["predict", "run"],
            "error: the following arguments are required: IMAGE; `slideformer predict --help`",
        ),
        (
            ["evaluate", "nowhere", "--data", "digits"],
            "error: nowhere/config.json does not exist; give the folder",
        ),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1


def test_debug_shows_where_a_mistake_was_met() -> None:
    with pytest.raises(UserError):
        main(["--debug", "trian"])


def raising(error: BaseException) -> Any:
    def run(_: object) -> int:
        raise error

    return run


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "run", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["backends"])


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(backends, "run", raising(OSError(28, "No space left on device", "runs/x")))
    assert main(["backends"]) == 2
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device: 'runs/x'\n"


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(backends, "run", raising(KeyboardInterrupt()))
    assert main(["backends"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


STOPPED = """
import os, runpy, signal, sys

class Stop:
    def find_spec(self, name, *rest):
        if name == {module!r}:
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except {swallowed}:
                pass

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Stop())
sys.argv = ["slideformer", "backends"]
runpy.run_module("slideformer", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("module", "swallowed"),
    [
        ("slideformer.cli.main", "()"),
        ("slideformer.cli.backends", "()"),
        ("torch", "()"),
        ("torch", "BaseException"),
    ],
    ids=["the command itself", "a verb", "a library", "a library that swallows it"],
)
def test_ctrl_c_while_modules_are_imported_is_one_line(module: str, swallowed: str) -> None:
    script = STOPPED.format(module=module, swallowed=swallowed)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("no \x1b[31m\nname"), "no \\x1b[31m\\nname"),
        (
            UnicodeEncodeError("utf-8", "runs/\udcff", 5, 6, "surrogates"),
            "runs/\\udcff must be a name in UTF-8",
        ),
        (MemoryError(), "there must be memory for what was asked"),
        (torch.OutOfMemoryError("CUDA out of memory."), "there must be memory for what was asked"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "there must be memory for what was"),
    ],
    ids=[
        "control characters",
        "a name of other bytes",
        "no memory",
        "no memory of a GPU",
        "no memory of PyTorch",
    ],
)
def test_what_is_no_bug_is_one_line(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backends, "run", raising(error))
    assert main(["backends"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {message}")
    assert told.count("\n") == 1


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.run(
        f"{sys.executable} -m slideformer models | true",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert process.stderr == ""
