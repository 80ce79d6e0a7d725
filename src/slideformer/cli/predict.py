# SPDX-License-Identifier: Apache-2.0
"""`slideformer predict`: class names and probabilities of pictures."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HELP = "Class names and probabilities of pictures."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare run, pictures and form of the answer."""
    parser.add_argument("run", type=Path, help="folder of a finished run, or any of timm's local-dir folders")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="picture, folder of pictures, or quoted glob"
    )
    parser.add_argument("--top", type=int, default=5, help="how many classes to tell")
    parser.add_argument(
        "--on-bad-image", choices=("skip", "stop"), default="skip", help="unreadable pictures"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    """Print a line a picture; what could not be read is told and counted."""
    from slideformer.errors import UserError
    from slideformer.models import load_pretrained
    from slideformer.tasks.classify.predict import predict
    from slideformer.tasks.pictures import find_images

    if arguments.top < 1:
        raise UserError(f"--top must be at least 1, got {arguments.top}")
    model, info = load_pretrained(arguments.run)
    paths = find_images(arguments.images)
    unreadable = 0
    for prediction in predict(model, info, paths, top=arguments.top, on_bad_image=arguments.on_bad_image):
        if prediction.error is not None:
            unreadable += 1
            print(f"left out, unreadable: {prediction.path} ({prediction.error})", file=sys.stderr)
            if arguments.json:
                print(json.dumps({"path": prediction.path, "error": prediction.error}))
        elif arguments.json:
            classes = [{"name": name, "probability": share} for name, share in prediction.classes]
            print(json.dumps({"path": prediction.path, "classes": classes}))
        else:
            words = "  ".join(f"{name} {100 * share:.1f} %" for name, share in prediction.classes)
            print(f"{prediction.path}  {words}")
    if unreadable == len(paths):
        raise UserError(f"there must be a picture that can be read, got {unreadable} unreadable ones")
    if unreadable:
        print(f"{unreadable} of {len(paths)} pictures were unreadable", file=sys.stderr)
    return 0
