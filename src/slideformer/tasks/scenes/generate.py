# SPDX-License-Identifier: Apache-2.0
"""A folder of scenes: COCO annotations for detection, label maps for segmentation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slideformer.errors import UserError, check_range
from slideformer.files import atomic_write, write_text, writing_to
from slideformer.tasks.scenes.photographs import load_photographs
from slideformer.tasks.scenes.scene import Scene, draw_scene
from slideformer.tasks.scenes.shapes import CLASS_NAMES

# Marks a folder as generated, so that it may be generated again.
MARK = "scenes.json"
CONTENT = {MARK, "annotations", "classes.txt", "masks", "train", "val"}
SMALLEST = 32
BACKGROUND = "background"
# Colours of the label maps, for whoever looks at one: the background first.
PALETTE = ((0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167))


def generate(
    folder: str | Path,
    *,
    train: int = 400,
    val: int = 80,
    size: int = 160,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a data set of scenes; the same numbers give the same set.

    ``annotations/instances_{train,val}.json`` is COCO's format; ``masks/{train,val}`` hold a label map for
    each image in ``train/`` and ``val/``, whose values are line numbers, from 0, of ``classes.txt``.

    Args:
        folder: to be made; an earlier set of scenes there is replaced.
        train: number of images to train on.
        val: number of images to hold out, before other photographs.
        size: side of an image in pixels.
        seed: another one gives other scenes.
        progress: called after each image with the number done and the number of all.

    Returns:
        The folder.

    Raises:
        UserError: a number is out of range, or the folder holds something else.
    """
    folder = Path(folder)
    for option, value, least in (
        ("train", train, 1),
        ("val", val, 1),
        ("size", size, SMALLEST),
        ("seed", seed, 0),
    ):
        check_range(f"--{option}", value, least)
    refuse_other_content(folder)
    facts = {"train": train, "val": val, "size": size, "seed": seed}
    with writing_to(folder):
        folder.resolve().parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder.resolve()) as unfinished:
        for done, _ in enumerate(write_scenes(unfinished, facts), start=1):
            if progress is not None:
                progress(done, train + val)
        if folder.exists():
            shutil.rmtree(folder)
    return folder


def write_scenes(folder: Path, facts: dict[str, int]) -> Iterator[None]:
    """Write all of it, an image at a time."""
    for number, split in enumerate(("train", "val")):
        photographs = load_photographs(split)
        for place in (folder / split, folder / "masks" / split, folder / "annotations"):
            place.mkdir(parents=True, exist_ok=True)
        document = empty_document()
        for image_id in range(1, facts[split] + 1):
            # An image depends on its own number alone, not on how many there are.
            random = np.random.default_rng((facts["seed"], number, image_id))
            scene = draw_scene(photographs, facts["size"], random)
            write_scene(folder, split, image_id, scene)
            annotate(document, image_id, scene)
            yield
        write_text(folder / "annotations" / f"instances_{split}.json", json.dumps(document) + "\n")
    write_text(folder / "classes.txt", "\n".join((BACKGROUND, *CLASS_NAMES)) + "\n")
    write_text(folder / MARK, json.dumps(facts) + "\n")


def refuse_other_content(folder: Path) -> None:
    """Refuse to overwrite anything but an earlier set of scenes."""
    if not folder.exists():
        return
    earlier = CONTENT if (folder / MARK).is_file() else set()
    if not folder.is_dir() or {entry.name for entry in folder.iterdir()} - earlier:
        raise UserError(
            f"{folder} must be empty or an earlier set of scenes, got other content; choose another folder"
        )


def file_name(image_id: int, suffix: str) -> str:
    """The name of an image or of its label map."""
    return f"{image_id:06}{suffix}"


def write_scene(folder: Path, split: str, image_id: int, scene: Scene) -> None:
    """Write an image and its label map."""
    Image.fromarray(scene.pixels).save(folder / split / file_name(image_id, ".jpg"), quality=95)
    labels = Image.fromarray(scene.label_map())
    labels.putpalette([value for colour in PALETTE for value in colour])
    labels.save(folder / "masks" / split / file_name(image_id, ".png"))


def empty_document() -> dict[str, Any]:
    """COCO's format before the first image."""
    categories = [
        {"id": number, "name": name, "supercategory": "shape"} for number, name in enumerate(CLASS_NAMES, 1)
    ]
    return {
        "info": {"description": "slideformer scenes"},
        "images": [],
        "annotations": [],
        "categories": categories,
    }


def annotate(document: dict[str, Any], image_id: int, scene: Scene) -> None:
    """Add an image and its objects to COCO's format."""
    height, width = scene.pixels.shape[:2]
    document["images"].append(
        {"id": image_id, "file_name": file_name(image_id, ".jpg"), "width": width, "height": height}
    )
    for label, mask in zip(scene.labels, scene.masks, strict=True):
        document["annotations"].append(
            {
                "id": len(document["annotations"]) + 1,
                "image_id": image_id,
                "category_id": label,
                "bbox": box_of(mask),
                "area": int(mask.sum()),
                "iscrowd": 0,
                # A polygon could neither have a ring's hole nor follow the pixels.
                "segmentation": {"size": [height, width], "counts": run_lengths(mask)},
            }
        )


def box_of(mask: NDArray[np.bool_]) -> list[int]:
    """Left, top, width and height of what is seen, in pixels."""
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    return [
        int(columns[0]),
        int(rows[0]),
        int(columns[-1] - columns[0] + 1),
        int(rows[-1] - rows[0] + 1),
    ]


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's run lengths: down the columns, of 0 and 1 in turn, beginning with 0."""
    flat = mask.T.ravel()
    changes = (flat[1:] != flat[:-1]).nonzero()[0] + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    lengths = np.diff(edges).tolist()
    return [0, *lengths] if flat[0] else lengths
