# SPDX-License-Identifier: Apache-2.0
"""Sets of images of which two processes get shares with equal statistics, whatever they have to learn."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.tasks.segment.pictures import NAMES, labels, picture

TRAIN, VAL, SIDE = 4, 3, 32
# Left, top, width and height, near those of an anchor of 8 and of one of 16 pixels; no overlap with an anchor
# is near a threshold.
BOXES = ((4.3, 3.8, 7.6, 8.7), (8.6, 9.1, 15.2, 14.3))


def write_annotated(root: Path) -> None:
    """Images of noise with a set's annotations in COCO's format: classes differ, boxes are the same.

    A fresh detector that proposes all of its anchors then learns from equally many regions in each image.
    """
    (root / "annotations").mkdir(parents=True)
    for number, (split, count) in enumerate({"train": TRAIN, "val": VAL}.items()):
        (root / split).mkdir()
        rows: dict[str, list[Any]] = {"images": [], "annotations": []}
        for image in range(count):
            random = np.random.default_rng((number, image))
            pixels = random.normal(random.uniform(60, 180, 3), 30, (SIDE, SIDE, 3))
            file = {"id": image + 1, "file_name": f"{image}.png", "height": SIDE, "width": SIDE}
            rows["images"].append(file)
            for left, top, width, height in BOXES:
                right, bottom = left + width, top + height
                pixels[int(top) : int(bottom), int(left) : int(right)] += random.normal(0, 60, 3)
                rows["annotations"].append(
                    {
                        "id": len(rows["annotations"]) + 1,
                        "image_id": image + 1,
                        "category_id": int(random.integers(1, 3)),
                        "bbox": [left, top, width, height],
                        "area": width * height,
                        "iscrowd": 0,
                        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                    }
                )
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / split / f"{image}.png")
        categories = [{"id": 1, "name": "hat"}, {"id": 2, "name": "cup"}]
        file = root / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps({**rows, "categories": categories}))


def write_labelled(root: Path) -> None:
    """Two pictures to train on, each twice, with other labels and more and more pixels without one.

    Batch normalisation is by device. In both of the first epochs each of two devices gets either picture.
    """
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        (root / "masks" / split).mkdir(parents=True)
    orders = [
        torch.randperm(TRAIN, generator=torch.Generator().manual_seed(epoch)).tolist() for epoch in (0, 1)
    ]
    first = next(
        set(pair)
        for pair in combinations(range(TRAIN), 2)
        if all(len(set(pair) & set(order[::2])) == 1 for order in orders)
    )
    for image in range(TRAIN):
        _, pixels = drawn(int(image in first))
        classes, _ = drawn(10 + image)
        classes[: 3 * image**2] = 255  # rows: 0, 3, 12, 27, of which no two make the sum of the others
        save(root, "train", image, pixels, classes)
    for image in range(VAL):
        classes, pixels = drawn(20 + image)
        classes[: 8 * image] = 1  # another share of each class in each image, so that one counted twice shows
        save(root, "val", image, pixels, classes)
    (root / "classes.txt").write_text("\n".join(NAMES) + "\n")


def drawn(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Classes, and an image of them."""
    random = np.random.default_rng(seed)
    classes = labels(random, (SIDE, SIDE))
    return classes, picture(classes, random)


def save(root: Path, split: str, image: int, pixels: NDArray[np.uint8], classes: NDArray[np.uint8]) -> None:
    """Write an image and its label map."""
    Image.fromarray(pixels).save(root / split / f"{image}.png")
    Image.fromarray(classes).save(root / "masks" / split / f"{image}.png")
