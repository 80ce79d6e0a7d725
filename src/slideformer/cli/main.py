# SPDX-License-Identifier: Apache-2.0
"""`slideformer`: the verbs, and how a mistake is reported."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from slideformer.cli.ranges import NO_LIMITS
from slideformer.console import accept_any_text, print_line
from slideformer.errors import UserError, name_options
from slideformer.version import __version__

# Verb -> its description. Its module, ``slideformer.cli.VERB`` with _ for -, is imported when it is called,
# so that no verb waits for the imports of another.
VERBS = {
    "train": "train a classifier, a detector or a segmenter; resume a run",
    "evaluate": "measure a trained model on labelled data",
    "predict": "apply a trained model to images",
    "scenes": "generate labelled images to try detection and segmentation on",
    "check-data": "check a data set before a training",
    "export": "write a model for other runtimes and check it there",
    "verify": "compare an exported file with the model that it was exported from",
    "models": "list the models; count parameters and multiply-adds",
    "backends": "list the ways to run the operator, and what a call costs on each",
    "bench": "measure operator, models and exported files next to alternatives",
    "compare": "compare attention patterns: cost, speed, memory, reach and runtimes",
    "demo": "train, evaluate and draw: on handwritten digits, or detect and segment on scenes",
}

INTERRUPTED = 130
# How PyTorch says that a device, or the machine, has no memory left.
NO_MEMORY = re.compile("^OutOfMemoryError|can't allocate memory")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the whole usage."""
        # The messages of our own types of options continue the name of the option.
        message = re.sub(r"^argument (?:\S+/)?(\S+): must ", r"\1 must ", message)
        raise UserError(f"{message}; `{self.prog} --help` lists the options")


def usage() -> str:
    """The text of ``slideformer --help``."""
    verbs = "\n".join(f"  {verb:<12}{text}" for verb, text in VERBS.items())
    return (
        "usage: slideformer VERB [options]\n\n"
        "Local attention for vision, and the Slide-Transformer models built on it.\n\n"
        f"{verbs}\n\n"
        "  slideformer VERB --help    the options of a verb\n"
        "  --version                  print the version\n"
        "  --no-limits                lift the upper bounds of sizes and counts\n"
        "  --debug                    show the traceback of an error"
    )


def dispatch(words: Sequence[str]) -> int:
    """Run a verb with the words after it."""
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] == "--version":
        print(f"slideformer {__version__}")
        return 0
    verb = words[0]
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else "`slideformer --help` lists them"
        raise UserError(f"the first word must be a verb, got {verb!r}; {hint}")
    module = importlib.import_module(f"slideformer.cli.{verb.replace('-', '_')}")
    if hasattr(module, "run_words"):  # a verb whose options another library parses
        return int(module.run_words(words[1:]))
    parser = Parser(prog=f"slideformer {verb}", description=module.HELP, formatter_class=HelpFormatter)
    module.add_arguments(parser)
    arguments = parser.parse_args(words[1:])
    try:
        return int(module.run(arguments))
    except UserError as error:
        raise UserError(name_options(str(error), options_of(parser))) from error


def options_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Argument -> option of a parser and of those below it."""
    options: dict[str, str] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                options |= options_of(below)
        else:
            options[action.dest] = (*action.option_strings, str(action.metavar or action.dest))[0]
    return options


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults that the help does not state, and keeps the lines of descriptions."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        stated = action.default in (None, (), False) or "default:" in (action.help or "")
        return action.help if stated else super()._get_help_string(action)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0 done, 2 a mistake, reported in one line, 130 interrupted."""
    words = list(sys.argv[1:] if words is None else words)
    debug = "--debug" in words
    limits = os.environ.get(NO_LIMITS)
    if "--no-limits" in words:
        os.environ[NO_LIMITS] = "1"
    words = [word for word in words if word not in ("--debug", "--no-limits")]
    accept_any_text()
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, stop)
    try:
        return dispatch(words)
    except KeyboardInterrupt as interrupt:
        print_line(f"interrupted{'; ' if interrupt.args else ''}{interrupt}", to_stderr=True)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away
        if debug:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        message = mistake(error)
        if debug or message is None:
            raise
        print_line(f"error: {message}", to_stderr=True)
        return 2
    finally:
        if limits is None:
            os.environ.pop(NO_LIMITS, None)
        if signal.getsignal(signal.SIGINT) is stop:
            signal.signal(signal.SIGINT, before)


def stop(number: int, frame: FrameType | None) -> None:
    """Ctrl-C: as Python means it, but at once while a module is imported.

    What is imported may swallow the exception, or make another one of it, or go round in circles.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, b"interrupted\n")
            os._exit(INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def mistake(error: Exception) -> str | None:
    """The line for an error of the user or the system; None for a bug of ours, which keeps its traceback."""
    if isinstance(error, UserError | OSError):
        return str(error)
    if isinstance(error, ImportError):
        return missing(error)
    if isinstance(error, UnicodeEncodeError):  # a name that a library can only take as text
        return f"{error.object} must be a name in UTF-8, got other bytes; rename it"
    if isinstance(error, MemoryError) or NO_MEMORY.search(f"{type(error).__name__}: {error}"):
        return (
            "there must be memory for what was asked, but there is not; ask for less, as by a smaller batch"
        )
    return None


# The extra that brings a package, by the name that it is imported by.
EXTRAS = {
    "faster_coco_eval": "detect",
    "skimage": "detect",
    "segmentation_models_pytorch": "segment",
    **dict.fromkeys(
        ("jsonargparse", "lightning", "matplotlib", "rich", "sklearn", "tensorboard", "torchmetrics"), "train"
    ),
}


def missing(error: ImportError) -> str | None:
    """The line for a package that is not installed; None for a module of ours, which is a bug."""
    package = (error.name or "").partition(".")[0]
    if package in EXTRAS:
        return f"this needs {package}, which is not installed; pip install 'slideformer[{EXTRAS[package]}]'"
    if error.name is None:  # a library's own words, of a package that an option needs
        return f"this needs a package that is not installed: {' '.join(str(error).split())}"
    return None
