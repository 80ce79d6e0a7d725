# SPDX-License-Identifier: Apache-2.0
"""Random annotations and detections, hard ones: crowds, holes in numbers, overlaps, masks of all kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor

from slideformer.tasks.detect.layout import Split

# Numbers with holes, not in order, as in COCO.
CATEGORIES = {7: "cup", 3: "cat", 90: "kite", 51: "never seen"}
HEIGHT, WIDTH = 150, 210


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def picture(folder: Path, name: str, height: int = HEIGHT, width: int = WIDTH) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(folder / name)


def blob(random: np.random.Generator) -> list[float]:
    """A polygon of six corners around a random place."""
    radius = float(np.exp(random.uniform(np.log(6), np.log(90))))
    angles = np.sort(random.uniform(0, 2 * np.pi, 6))
    corners = np.stack(
        [
            random.uniform(0, WIDTH) + radius * np.cos(angles),
            random.uniform(0, HEIGHT) + radius * np.sin(angles),
        ],
        1,
    )
    return [round(float(place), 2) for place in corners.clip(0, [WIDTH, HEIGHT]).ravel()]


def segmentation(random: np.random.Generator) -> tuple[Any, Any]:
    """A mask as polygons or as either kind of run lengths, and what pycocotools makes of it."""
    polygons = [blob(random) for _ in range(int(random.integers(1, 3)))]
    rle = coco_mask.merge(coco_mask.frPyObjects(polygons, HEIGHT, WIDTH))
    kind = random.integers(3)
    if kind == 0:
        return polygons, rle
    if kind == 1:
        return {"size": rle["size"], "counts": rle["counts"].decode()}, rle
    flat = coco_mask.decode(rle).T.ravel()
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])
    lengths = np.diff(edges).tolist()
    return {"size": rle["size"], "counts": [0, *lengths] if flat[0] else lengths}, rle


def annotations(folder: Path, seed: int, pictures: int = 12) -> Split:
    """Random pictures and annotations in COCO's format."""
    random = np.random.default_rng(seed)
    document: dict[str, Any] = {
        "info": {},
        "images": [],
        "annotations": [],
        "categories": [{"id": number, "name": name} for number, name in CATEGORIES.items()],
    }
    for image_id in random.permutation(pictures * 3)[:pictures].tolist():
        name = f"{image_id}.png"
        picture(folder / "val", name)
        document["images"].append({"id": image_id, "file_name": name, "height": HEIGHT, "width": WIDTH})
        for _ in range(int(random.integers(0, 7))):
            mask, rle = segmentation(random)
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": int(random.choice([7, 3, 90])),
                    "bbox": [round(float(x), 2) for x in coco_mask.toBbox(rle)],
                    "area": float(coco_mask.area(rle)),
                    "iscrowd": int(random.uniform() < 0.15),
                    "segmentation": mask,
                }
            )
    return Split("val", write(folder / "annotations" / "instances_val.json", document), folder / "val")


def detections(split: Split, seed: int) -> dict[int, dict[str, Tensor]]:
    """What a detector might say: annotations a little off, and things that are not there."""
    random = np.random.default_rng(seed)
    document = json.loads(split.annotations.read_text())
    labels = {number: label for label, number in enumerate(sorted(CATEGORIES), start=1)}
    found = {}
    for image in document["images"]:
        rows = [row for row in document["annotations"] if row["image_id"] == image["id"]]
        boxes, classes, scores, masks = [], [], [], []
        for row in rows * 2:
            if random.uniform() < 0.2:
                continue
            left, top, width, height = np.asarray(row["bbox"]) + random.normal(0, 2, 4)
            boxes.append([left, top, left + max(width, 1), top + max(height, 1)])
            classes.append(labels[row["category_id"]] if random.uniform() < 0.9 else 1)
            # Few different scores, so that some are equal.
            scores.append(round(float(random.uniform()), 1))
            shift = tuple(random.integers(-3, 4, 2))
            masks.append(np.roll(decoded(row["segmentation"]), shift, (0, 1)))
        for _ in range(int(random.integers(0, 4))):
            _, rle = segmentation(random)
            left, top, width, height = coco_mask.toBbox(rle)
            boxes.append([left, top, left + width, top + height])
            classes.append(int(random.integers(1, 5)))
            scores.append(float(random.uniform()))
            masks.append(coco_mask.decode(rle))
        # A probability each: just above and just below the threshold.
        pixels = torch.as_tensor(np.array(masks), dtype=torch.float32).reshape(-1, 1, HEIGHT, WIDTH)
        found[image["id"]] = {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor(classes, dtype=torch.int64),
            "scores": torch.tensor(scores, dtype=torch.float32),
            "masks": 0.4 + 0.2 * pixels,
        }
    return found


def decoded(mask: Any) -> np.ndarray:
    """Pixels of a mask as COCO's JSON has it, by pycocotools."""
    if isinstance(mask, list):
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(mask, HEIGHT, WIDTH)))
    if isinstance(mask["counts"], list):
        mask = coco_mask.frPyObjects(mask, HEIGHT, WIDTH)
    return coco_mask.decode(mask)
