# SPDX-License-Identifier: Apache-2.0
"""`slideformer-runtime`: runs an exported model on images, a line for each."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from slideformer_runtime.errors import UserError, printable
from slideformer_runtime.version import __version__

if TYPE_CHECKING:
    from slideformer_runtime.label_files import LabelFiles
    from slideformer_runtime.results import Result

STDIN = "-"
BATCH_SIZE = 8


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UserError(f"{message}; `{self.prog} --help` lists the options")


def parser() -> Parser:
    """Return the parser of the options."""
    options = Parser(prog="slideformer-runtime", description="Run an exported model on images.")
    add = options.add_argument
    add("file", metavar="FILE", help="a file that `slideformer export` wrote: .onnx or .xml")
    add(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="image, folder of images, quoted glob, or - for paths on standard input, one a line",
    )
    add("--json", action="store_true", help="print one JSON object a line")
    add("--top", type=int, help="classifiers: how many classes to print; default: 5")
    add("--score", type=float, help="detectors: the lowest score of an object; default: 0.5")
    add("--output", type=Path, metavar="DIR", help="segmenters: folder for label maps as PNG")
    add("--threads", type=int, help="how many to compute with; default: chosen by the engine")
    add("--version", action="version", version=f"slideformer-runtime {__version__}")
    return options


def run(arguments: argparse.Namespace) -> int:
    """Open the model and predict image by image."""
    # Imported here, so that --help does not wait for them, and Ctrl-C meanwhile is one line.
    from slideformer_runtime.images import find_images
    from slideformer_runtime.label_files import LabelFiles
    from slideformer_runtime.model import Model

    live = STDIN in arguments.images
    if live and len(arguments.images) > 1:
        raise UserError(
            f"{STDIN} must be the only image, got {len(arguments.images)}; give the others on standard input"
        )
    known = [] if live else find_images(arguments.images)
    model = Model(arguments.file, threads=arguments.threads)
    if arguments.output is not None and model.task.name != "segment":
        raise UserError(
            f"`output` goes with a segmenter, got a file that can {model.task.name}; leave it out"
        )
    files = None if arguments.output is None else LabelFiles(arguments.output, known)
    results = model.stream(
        lines_of_stdin() if live else known,
        top=arguments.top,
        score=arguments.score,
        batch_size=1 if live else BATCH_SIZE,
    )
    print_results(results, as_json=arguments.json, files=files)
    return 0


def lines_of_stdin() -> Iterator[str]:
    """Yield paths from standard input, each as soon as it is there."""
    for line in iter(sys.stdin.readline, ""):
        if path := line.rstrip("\r\n"):
            yield path


def print_results(results: Iterable[Result], *, as_json: bool, files: LabelFiles | None) -> None:
    """Print each result as it comes, and on standard error what was left out.

    Args:
        results: to print.
        as_json: whether to print JSON.
        files: where to write label maps; None to write none.

    Raises:
        UserError: there were images, and all were left out.
    """
    from slideformer_runtime.results import Segmentation

    count, left_out = 0, 0
    for result in results:
        count += 1
        if result.error is not None:
            left_out += 1
            print(printable(result), file=sys.stderr)
        file = files.write(result) if files is not None and isinstance(result, Segmentation) else None
        if as_json:
            labels = {} if file is None else {"labels": str(file)}
            print(json.dumps({**result.to_dict(), **labels}), flush=True)
        elif result.error is None:
            print(printable(result if file is None else f"{result}  -> {file}"), flush=True)
    if count and left_out == count:
        raise UserError(f"at least one image must be usable, got {count} that were left out")
    if left_out:
        print(f"{left_out} of {count} images were left out", file=sys.stderr)


def allow_any_name() -> None:
    """Read whatever bytes a path may have, and print as escapes what the terminal cannot show."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 2 a mistake in one line, 130 interrupted."""
    allow_any_name()
    try:
        return run(parser().parse_args(words))
    except BrokenPipeError:  # the reader of our output has gone: nobody to report to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (UserError, OSError) as error:
        # An error names an argument in backquotes; here it is an option.
        message = re.sub(r"`(top|score|output|threads)`", r"--\1", str(error))
        print(f"error: {printable(message)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
