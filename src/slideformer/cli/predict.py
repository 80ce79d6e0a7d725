# SPDX-License-Identifier: Apache-2.0
"""`slideformer predict`: apply a trained model to images."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slideformer.cli.evaluate import add_window
from slideformer.cli.ranges import real, whole
from slideformer.console import counted, print_line
from slideformer.errors import UserError

if TYPE_CHECKING:
    from slideformer.runs import Run
    from slideformer.tasks.results import Result

HELP = (
    "Classifiers: names of classes and probabilities; detectors: boxes, masks and scores; segmenters: the "
    "class of every pixel. Of detectors and segmenters also drawn on the images, and written as files."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare run, images and form of the answer."""
    parser.add_argument("run", type=Path, help="folder of a finished run, or one in timm's local-dir format")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image, folder of images, or quoted glob")
    parser.add_argument("--on-bad-image", choices=("skip", "stop"), default="skip", help="unreadable images")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument(
        "--output",
        type=Path,
        default=None,
        help="folder of the drawn images; default: RUN/predictions, of classifiers none",
    )
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
    """Print a line an image, and write the drawn images."""
    from slideformer.runs import open_run
    from slideformer.tasks.images import find_images
    from slideformer.tasks.predict import predict
    from slideformer.tasks.results import LABELS, check_output

    opened = open_run(arguments.run)
    paths = find_images(arguments.images)
    folder = arguments.output
    if folder is None and opened.task != "classify":
        folder = arguments.run / "predictions"
    if folder is not None:
        check_output(paths, folder, ("", LABELS) if opened.task == "segment" else ("",))
    results = predict(
        opened,
        paths,
        top=arguments.top,
        score=arguments.score,
        max_drawn=arguments.max_drawn,
        window=arguments.window,
        stride=arguments.stride,
        on_bad_image=arguments.on_bad_image,
        progress=None if arguments.window is None else counted("windows"),
    )
    report = Report(opened, folder, as_json=arguments.json)
    for result in results:
        report.add(result)
    report.finish(paths)
    return 0


class Report:
    """The results of one call: printed as they come, written, and counted.

    Args:
        run: that gives them.
        folder: of what is drawn; None to draw nothing.
        as_json: whether to print for programs.
    """

    def __init__(self, run: Run, folder: Path | None, *, as_json: bool) -> None:
        from slideformer.tasks.detect.results import CocoResult

        self.run, self.folder, self.as_json = run, folder, as_json
        self.unreadable = 0
        self.detections: list[CocoResult] = []

    def add(self, result: Result) -> None:
        """Print a result, and write its image."""
        from slideformer.tasks.detect.results import coco_result
        from slideformer.tasks.results import Detections, Segmentation

        if result.error is not None:
            self.unreadable += 1
            print_line(result, to_stderr=True)
        files = [] if self.folder is None else result.save(self.folder)
        if isinstance(result, Detections):
            self.detections.append(coco_result(result))
        if self.as_json:
            labels = {"labels": str(files[1])} if isinstance(result, Segmentation) else {}
            print(json.dumps({**result.to_dict(), **labels}))
        elif result.error is None:
            print_line(f"{result}  -> {files[0]}" if files else result)

    def finish(self, paths: Sequence[Path]) -> None:
        """Write COCO's results, and print what was written and what was left out.

        Raises:
            UserError: no image could be read.
        """
        from slideformer.files import write_text
        from slideformer.tasks.detect.results import write_results

        if self.unreadable == len(paths):
            raise UserError(f"there must be an image that can be read, got {self.unreadable} unreadable ones")
        if self.unreadable:
            print(f"{self.unreadable} of {len(paths)} images were unreadable", file=sys.stderr)
        if self.folder is None:
            return
        words = f"written: {len(paths) - self.unreadable} images"
        if self.run.task == "segment":
            words += f" and label maps in {self.folder}"
        elif self.run.task == "detect":
            ids = self.run.category_ids or tuple(range(1, self.run.blueprint.num_classes + 1))
            names = ", ".join(file.name for file in write_results(self.detections, ids, self.folder))
            index = [{"id": number, "file_name": str(path)} for number, path in enumerate(paths, start=1)]
            write_text(self.folder / "images.json", json.dumps(index, indent=2) + "\n")
            words += f", COCO's results {names}, and images.json in {self.folder}"
        else:
            words += f" in {self.folder}"
        if not self.as_json:
            print_line(words)
