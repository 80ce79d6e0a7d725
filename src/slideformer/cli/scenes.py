# SPDX-License-Identifier: Apache-2.0
"""`slideformer scenes`: images with labelled objects, to try detection and segmentation on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from slideformer.cli.ranges import LARGEST, SIDE, whole
from slideformer.console import print_line

HELP = """Write photographs with pasted objects, annotated as COCO's instances and as label maps.

For `slideformer train detect --data DIR` and `slideformer train segment --data DIR`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare folder, numbers and seed."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="to be made, or an earlier set of scenes")
    parser.add_argument("--train", type=whole(1, 100_000), default=400, help="images to train on")
    parser.add_argument("--val", type=whole(1, 100_000), default=80, help="images to hold out")
    parser.add_argument("--size", type=whole(32, SIDE), default=160, help="side of an image in pixels")
    parser.add_argument("--seed", type=whole(0, LARGEST), default=0, help="another one gives other scenes")


def run(arguments: argparse.Namespace) -> int:
    """Write them and tell where they are."""
    from slideformer.tasks.scenes.generate import generate
    from slideformer.tasks.scenes.shapes import CLASS_NAMES

    folder = generate(
        arguments.folder,
        train=arguments.train,
        val=arguments.val,
        size=arguments.size,
        seed=arguments.seed,
        progress=tell if sys.stderr.isatty() else None,
    )
    print_line(
        f"{arguments.train} images to train on, {arguments.val} held out, {arguments.size} x "
        f"{arguments.size} pixels, classes {', '.join(CLASS_NAMES)}: {folder}"
    )
    return 0


def tell(done: int, total: int) -> None:
    """Say on a terminal how far it is."""
    print(f"\r{done} of {total} images", end="\n" if done == total else "", file=sys.stderr, flush=True)
