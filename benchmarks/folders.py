# SPDX-License-Identifier: Apache-2.0
"""Write a source of images as folders: with labels, and without.

    python benchmarks/folders.py digits data/digits
    python benchmarks/folders.py torch/fashion_mnist data/fashion --root ROOT --classes 10 --train 10000

leaves OUTPUT/labelled/{train,val}, each with one folder of PNGs a class, and OUTPUT/unlabelled with the
images of ``train`` alone.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

from slideformer.tasks.classify.sources import Request, open_source


def main() -> None:
    """Write the folders."""
    parser = argparse.ArgumentParser(description="Write a source of images as folders.")
    parser.add_argument("source", help="digits, or a source of timm that is read by number")
    parser.add_argument("output", type=Path, help="a new folder")
    parser.add_argument("--root", help="folder of a timm source")
    parser.add_argument("--classes", type=int, help="number of classes of a timm source")
    parser.add_argument("--train", type=int, help="training images, the first ones; default: all")
    parser.add_argument("--val", type=int, help="held-out images, the first ones; default: all")
    arguments = parser.parse_args()
    source = open_source(Request(name=arguments.source, root=arguments.root, num_classes=arguments.classes))
    unlabelled = arguments.output / "unlabelled"
    unlabelled.mkdir(parents=True)
    for split, count in (("train", arguments.train), ("val", arguments.val)):
        images = source.open(split)
        for name in source.class_names:
            (arguments.output / "labelled" / split / name).mkdir(parents=True)
        for number in islice(range(len(images)), count):
            image, target = images[number]
            image.save(
                arguments.output / "labelled" / split / source.class_names[target] / f"{number:05d}.png"
            )
            if split == "train":
                image.save(unlabelled / f"{number:05d}.png")


if __name__ == "__main__":
    main()
