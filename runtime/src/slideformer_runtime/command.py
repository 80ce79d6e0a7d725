# SPDX-License-Identifier: Apache-2.0
"""`slideformer-runtime`: what an exported model sees in pictures, a line a picture."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from slideformer_runtime.errors import UserError, printable
from slideformer_runtime.version import __version__

STREAM = "-"
TOGETHER = 8


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the whole usage."""
        raise UserError(f"{message}; `{self.prog} --help` lists the options")


def parser() -> Parser:
    """The options."""
    options = Parser(prog="slideformer-runtime", description="What an exported model sees in pictures.")
    options.add_argument("file", metavar="FILE", help="what `slideformer export` wrote: .onnx or .xml")
    options.add_argument(
        "pictures",
        nargs="+",
        metavar="PICTURE",
        help="picture, folder of pictures, quoted glob, or - for a path a line on standard input",
    )
    options.add_argument("--json", action="store_true", help="print one JSON object a line")
    options.add_argument("--top", type=int, help="classifiers: how many classes to tell; 5 if not given")
    options.add_argument(
        "--score", type=float, help="detectors: the least score that is told; 0.5 if not given"
    )
    options.add_argument(
        "--output", type=Path, metavar="DIR", help="segmenters: folder for label maps as PNG"
    )
    options.add_argument(
        "--threads", type=int, help="how many to compute with; the engine's choice if not given"
    )
    options.add_argument("--version", action="version", version=f"slideformer-runtime {__version__}")
    return options


def run(arguments: argparse.Namespace) -> int:
    """Open the model and answer picture by picture."""
    # Here, so that --help waits for none of it, and Ctrl-C meanwhile is one line.
    from slideformer_runtime.label_files import LabelFiles
    from slideformer_runtime.lines import tell
    from slideformer_runtime.model import Model
    from slideformer_runtime.pictures import find_pictures

    live = STREAM in arguments.pictures
    if live and len(arguments.pictures) > 1:
        raise UserError(
            f"{STREAM} must be the only picture, got {len(arguments.pictures)}; give the others there"
        )
    known = [] if live else find_pictures(arguments.pictures)
    model = Model(arguments.file, threads=arguments.threads)
    if arguments.output is not None and model.task.name != "segment":
        raise UserError(
            f"--output goes with a segmenter, got a file that can {model.task.name}; leave it out"
        )
    files = None if arguments.output is None else LabelFiles(arguments.output, known)
    answers = model.stream(
        lines_of_input() if live else known,
        top=arguments.top,
        score=arguments.score,
        together=1 if live else TOGETHER,
    )
    tell(answers, model.task, as_json=arguments.json, files=files)
    return 0


def lines_of_input() -> Iterator[str]:
    """Paths on standard input, each as soon as it is there."""
    for line in iter(sys.stdin.readline, ""):
        if path := line.rstrip("\r\n"):
            yield path


def print_any_name() -> None:
    """Let names that the terminal cannot show be printed as escapes, and read whatever a path may hold."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0 done, 2 a mistake told in one line, 130 interrupted."""
    print_any_name()
    try:
        return run(parser().parse_args(words))
    except (UserError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output went away: nothing to tell
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"error: {printable(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
