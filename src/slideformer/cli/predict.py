# SPDX-License-Identifier: Apache-2.0
"""`slideformer predict`: apply a trained model to images."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from slideformer.cli.computing import RUN, add_computing, computing_of, results_folder
from slideformer.cli.evaluate import add_window
from slideformer.cli.ranges import real, whole
from slideformer.console import counted, print_line, progress
from slideformer.errors import UserError

if TYPE_CHECKING:
    from slideformer.runs import Run
    from slideformer.tasks.answers import AnswerFile
    from slideformer.tasks.results import Result

HELP = (
    "Classifiers: names of classes and probabilities; detectors: boxes, masks and scores; segmenters: the "
    "class of every pixel. Of detectors and segmenters also drawn on the images, and written as files."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare run, images and form of the answer."""
    parser.add_argument("run", type=Path, help=RUN)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image, folder of images, or quoted glob")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument(
        "--output",
        type=Path,
        default=None,
        help="FILE.jsonl or FILE.csv, which gets a line an image as soon as it is known; or the folder of "
        "the drawn images; default: RUN/predictions, of classifiers none",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the --output file: skip images that are in it; give the same "
        "run and options as before",
    )
    add_computing(parser)
    parser.add_argument(
        "--top", type=whole(1, 10**6), help="classifiers: how many classes to print; default: 5"
    )
    parser.add_argument(
        "--score", type=real(0, 1), help="detectors: the lowest score of an object; default: 0.5"
    )
    parser.add_argument(
        "--max-drawn",
        type=whole(0, 10**6),
        help="detectors: how many objects to draw on an image, those with the highest scores; default: 50",
    )
    add_window(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print or write a line an image, and write the drawn images."""
    from slideformer.runs import open_run
    from slideformer.tasks.images import find_images
    from slideformer.tasks.predict import predict

    opened = open_run(arguments.run)
    paths = find_images(arguments.images)
    report = Report(opened, paths, arguments)
    results = predict(
        opened,
        report.missing,
        **computing_of(arguments),
        top=arguments.top,
        score=arguments.score,
        max_drawn=arguments.max_drawn,
        window=arguments.window,
        stride=arguments.stride,
        on_bad_image=arguments.on_bad_image,
        progress=counted("images" if arguments.window is None else "windows"),
    )
    try:
        for result in results:
            report.add(result)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(*report.interrupted()) from None
    report.finish()
    return 0


class Report:
    """The results of one call: printed as they come, written, and counted.

    Args:
        run: that gives them.
        paths: of all images.
        arguments: of the command.

    Attributes:
        missing: paths of the images that have no answer yet.

    Raises:
        UserError: the results cannot be written where they are to.
    """

    def __init__(self, run: Run, paths: Sequence[Path], arguments: argparse.Namespace) -> None:
        from slideformer.tasks.detect.results import CocoResult

        self.run, self.paths, self.as_json = run, paths, arguments.json
        self.answers, self.folder = answers_of(run, arguments), None
        if self.answers is None:
            self.folder = folder_of(run, paths, arguments)
        known = {} if self.answers is None else self.answers.done
        self.missing = [path for path in paths if str(path) not in known]
        self.numbers = {str(path): number for number, path in enumerate(paths, start=1)}
        self.unreadable, self.written = sum(bool(known.get(str(path))) for path in paths), 0
        self.detections: list[CocoResult] = []

    def add(self, result: Result) -> None:
        """Print a result, and write its answer or its image."""
        from slideformer.tasks.detect.results import coco_result
        from slideformer.tasks.results import Detections, Segmentation

        if result.error is not None:
            self.unreadable += 1
            print_line(result, to_stderr=True)
        if isinstance(result, Detections):
            result = replace(result, image_id=self.numbers[result.path])
        files = [] if self.folder is None else result.save(self.folder)
        if self.answers is not None:
            self.answers.add(result)
            self.written += 1
        elif isinstance(result, Detections):
            self.detections.append(coco_result(result))
        if self.as_json:
            labels = {"labels": str(files[1])} if isinstance(result, Segmentation) and files else {}
            progress("")
            print(json.dumps({**result.to_dict(), **labels}))
        elif result.error is None and self.answers is None:
            print_line(f"{result}  -> {files[0]}" if files else result)

    def finish(self) -> None:
        """Write COCO's results, and print what was written and what was left out.

        Raises:
            UserError: no image could be read.
        """
        if self.unreadable == len(self.paths):
            raise UserError(f"there must be an image that can be read, got {self.unreadable} unreadable ones")
        if self.unreadable:
            print_line(f"{self.unreadable} of {len(self.paths)} images were unreadable", to_stderr=True)
        words = self.where() if self.answers is not None else self.finish_folder()
        if words and not self.as_json:
            print_line(f"written: {words}")

    def finish_folder(self) -> str:
        """Write COCO's results; what is in the folder, in words."""
        from slideformer.files import write_text
        from slideformer.tasks.detect.results import write_results

        if self.folder is None:
            return ""
        words = f"{len(self.paths) - self.unreadable} images"
        if self.run.task == "segment":
            return f"{words} and label maps in {self.folder}"
        if self.run.task == "detect":
            ids = self.run.category_ids or tuple(range(1, self.run.blueprint.num_classes + 1))
            names = ", ".join(file.name for file in write_results(self.detections, ids, self.folder))
            index = [{"id": number, "file_name": path} for path, number in self.numbers.items()]
            write_text(self.folder / "images.json", json.dumps(index, indent=2) + "\n")
            words += f", COCO's results {names}, and images.json"
        return f"{words} in {self.folder}"

    def where(self) -> str:
        """How many answers are in the file, in words."""
        assert self.answers is not None  # or there is no file
        there = len(self.paths) - len(self.missing) + self.written
        return f"{there} of {len(self.paths)} images in {self.answers.file}"

    def interrupted(self) -> tuple[str, ...]:
        """How to go on after an interruption, in words, where that is possible."""
        return () if self.answers is None else (f"{self.where()}; the same command with --resume goes on",)


def answers_of(run: Run, arguments: argparse.Namespace) -> AnswerFile | None:
    """The file that gets the answers, if one is named."""
    from slideformer.tasks.answers import FORMATS, AnswerFile
    from slideformer.tasks.predict import TOP

    output: Path | None = arguments.output
    if output is None or output.suffix.lower() not in FORMATS or output.is_dir():
        if arguments.resume:
            raise UserError(
                f"--resume continues an --output file ending in {' or '.join(FORMATS)}, got {output}; name "
                "one, or leave --resume out"
            )
        return None
    top = TOP if arguments.top is None else arguments.top
    return AnswerFile(output, run, top, resume=arguments.resume)


def folder_of(run: Run, paths: Sequence[Path], arguments: argparse.Namespace) -> Path | None:
    """The folder that gets the drawn images, if they are drawn."""
    from slideformer.tasks.answers import FORMATS
    from slideformer.tasks.results import LABELS, check_output

    folder: Path | None = arguments.output
    if folder is not None and folder.suffix and not folder.is_dir():
        raise UserError(
            f"--output must be a file ending in {' or '.join(FORMATS)}, or a folder, got {folder}; for a "
            "folder of this name create it first"
        )
    if folder is None and run.task != "classify":
        folder = results_folder(arguments.run) / "predictions"
    if folder is not None:
        check_output(paths, folder, ("", LABELS) if run.task == "segment" else ("",))
    return folder
