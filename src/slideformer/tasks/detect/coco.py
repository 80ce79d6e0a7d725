# SPDX-License-Identifier: Apache-2.0
"""Reading annotations in COCO's format: every reference is checked, everything odd is counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slideformer.errors import UserError
from slideformer.files import read_text
from slideformer.runs.run import Drawn
from slideformer.tasks.detect import masks
from slideformer.tasks.detect.layout import Split
from slideformer.tasks.detect.masks import LARGEST, RunLengths, is_number
from slideformer.tasks.training.findings import Findings

Box = tuple[float, float, float, float]
# Twice what COCO's own largest file has.
MOST_BYTES = 1 << 30
# The kind of finding of an object without a mask, where masks are needed.
EMPTY_MASKS = "empty masks"


@dataclass(frozen=True)
class CocoImage:
    """An image of the set.

    Attributes:
        image_id: its number in the file.
        file: its path.
        height: in pixels, as the file says.
        width: in pixels, as the file says.
    """

    image_id: int
    file: Path
    height: int
    width: int


@dataclass(frozen=True)
class Annotation:
    """An object, or a crowd of them, in an image.

    Attributes:
        annotation_id: its number in the file.
        label: number of its class, from 1, without gaps.
        box: left, top, width and height in pixels, as the file says.
        corners: left, top, right and bottom, clipped to the image; None where nothing is left to train on.
        area: in pixels, as the file says.
        crowd: whether it is a region of many objects, neither trained on nor counted as missed.
        mask: its pixels; None where it has none.
    """

    annotation_id: int
    label: int
    box: Box
    corners: Box | None
    area: float
    crowd: bool
    mask: RunLengths | None


@dataclass(frozen=True)
class CocoSet:
    """Images and their annotations.

    Attributes:
        file: the annotations.
        images: by number, ascending: the order in which COCO's tools rank equal scores.
        annotations: of each image, by its number; in the order of the file.
        categories: names by the file's own numbers, ascending; the first is label 1.
        drawn: on which pixels annotations were drawn, where the size of an image does not show it.
    """

    file: Path
    images: tuple[CocoImage, ...]
    annotations: dict[int, list[Annotation]]
    categories: dict[int, str]
    drawn: Drawn = "upright"

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, that of label 1 first."""
        return list(self.categories.values())

    @property
    def category_ids(self) -> list[int]:
        """The file's numbers of the classes, that of label 1 first."""
        return list(self.categories)


def read_coco(
    split: Split, findings: Findings, *, with_masks: bool = True, drawn: Drawn = "upright"
) -> CocoSet:
    """Read annotations; those that cannot be used are counted in the findings, and are not in the set.

    Args:
        split: file and folder.
        findings: counts what is wrong, left out or worth knowing.
        with_masks: whether masks are needed; if not, they are not read.
        drawn: on which pixels annotations were drawn, where the size of an image does not show it.

    Raises:
        UserError: the file itself is not in COCO's format.
    """
    document = load(split.annotations)
    reader = Reader(split, findings, with_masks)
    categories = reader.categories(document["categories"])
    images = reader.images(document["images"])
    annotations = reader.annotations(document["annotations"], images, list(categories))
    objects = sum(len(rows) for rows in annotations.values())
    empty = sum(not annotations[image_id] for image_id in images)
    findings.facts.append(
        f"{split.name}: {len(images)} images ({empty} without an object), {objects} annotations, "
        f"{len(categories)} classes ({split.annotations})"
    )
    ordered = tuple(images[image_id] for image_id in sorted(images))
    return CocoSet(split.annotations, ordered, annotations, categories, drawn)


def load(file: Path) -> dict[str, Any]:
    """Load the three lists of COCO's format."""
    text = read_text(file, most=MOST_BYTES)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} must be JSON, got {error}; check or fetch it again") from error
    for key in ("images", "annotations", "categories"):
        rows = document.get(key) if isinstance(document, dict) else None
        if not isinstance(rows, list):
            raise UserError(
                f"{file} must be COCO's format with the lists images, annotations and categories, "
                f"got {'no' if rows is None else 'another kind of'} {key}; convert it"
            )
        if not rows and key != "annotations":
            raise UserError(f"{file} must list {key}, got none; check how it was made")
    return dict(document)


class Reader:
    """Reads and checks the lists of one file.

    Args:
        split: file and folder.
        findings: counts what is wrong.
        with_masks: whether masks are needed.
    """

    def __init__(self, split: Split, findings: Findings, with_masks: bool) -> None:
        self.split, self.findings, self.with_masks = split, findings, with_masks
        self.file = split.annotations

    def categories(self, rows: list[Any]) -> dict[int, str]:
        """Names of the classes by number, ascending; numbers may have gaps."""
        kinds = {"id": is_integer, "name": lambda value: isinstance(value, str)}
        names = dict(sorted((row["id"], row["name"]) for row in self.valid("category", rows, kinds)))
        for name, count in Counter(names.values()).items():
            if count > 1:
                numbers = ", ".join(str(number) for number, other in names.items() if other == name)
                self.findings.warn("names that several categories have", f"{name!r} of {numbers}")
        return names

    def images(self, rows: list[Any]) -> dict[int, CocoImage]:
        """The images by number."""
        kinds = {
            "id": is_integer,
            "file_name": lambda value: isinstance(value, str) and bool(value),
            "height": is_side,
            "width": is_side,
        }
        images: dict[int, CocoImage] = {}
        files = set()
        for row in self.valid("image", rows, kinds):
            file = self.split.images / row["file_name"]
            images[row["id"]] = CocoImage(row["id"], file, row["height"], row["width"])
            if file in files:
                self.findings.warn("files that several images name", f"{file} of image {row['id']}")
            files.add(file)
            if not file.is_file():
                self.findings.error(
                    "images that do not exist",
                    f"{self.file}: the file of image {row['id']} must exist, got {file}, which does not; "
                    f"put it there, or name the folder of images with `{self.split.name}_images`",
                )
        return images

    def annotations(
        self, rows: list[Any], images: dict[int, CocoImage], category_ids: list[int]
    ) -> dict[int, list[Annotation]]:
        """The annotations of each image."""
        kinds = {
            "id": is_integer,
            "image_id": is_integer,
            "category_id": is_integer,
            "bbox": lambda value: isinstance(value, list) and len(value) == 4 and all(map(is_number, value)),
            "iscrowd": lambda value: value in (None, 0, 1),
        }
        labels = {category_id: label for label, category_id in enumerate(category_ids, start=1)}
        found: dict[int, list[Annotation]] = {image_id: [] for image_id in images}
        for row in self.valid("annotation", rows, kinds):
            dangling = [
                (key, what)
                for key, what, known in (("image_id", "image", images), ("category_id", "category", labels))
                if row[key] not in known
            ]
            for key, what in dangling:
                self.findings.error(
                    f"annotations of an unknown {what}",
                    f"{self.file}: annotation {row['id']} must belong to a listed {what}, got {key} "
                    f"{row[key]}, which is not; list it or remove the annotation",
                )
            if not dangling:
                annotation = self.annotation(row, images[row["image_id"]], labels[row["category_id"]])
                found[row["image_id"]].append(annotation)
        return found

    def annotation(self, row: dict[str, Any], image: CocoImage, label: int) -> Annotation:
        """One annotation, whose image and category exist."""
        where = f"{self.file.name} annotation {row['id']}"
        box: Box = tuple(float(value) for value in row["bbox"])  # type: ignore[assignment]
        corners = clip(box, image)
        crowd = bool(row.get("iscrowd", 0))
        mask = self.mask(row, image)
        if crowd:
            self.findings.note("crowd regions, neither trained on nor counted as missed", where)
        elif box[2] <= 0 or box[3] <= 0:
            self.findings.left_out("boxes without an area", where)
        elif corners is None:
            self.findings.left_out("boxes outside of their image", where)
        elif self.with_masks and mask is None:
            self.findings.left_out(EMPTY_MASKS, where)
            corners = None
        elif corners != (box[0], box[1], box[0] + box[2], box[1] + box[3]):
            self.findings.note("boxes that reach beyond their image, clipped in training", where)
        area = row.get("area")
        if area is None or not is_number(area):
            self.findings.note("annotations without an area, computed instead", where)
            area = masks.area(mask) if mask is not None else box[2] * box[3]
        return Annotation(row["id"], label, box, corners, float(area), crowd, mask)

    def mask(self, row: dict[str, Any], image: CocoImage) -> RunLengths | None:
        """The mask of an annotation, where it has one and masks are needed."""
        if not self.with_masks:
            return None
        try:
            return masks.from_annotation(row.get("segmentation"), image.height, image.width)
        except UserError:
            raise
        except ValueError as error:
            self.findings.error(
                "masks that are not valid",
                f"{self.file}: the segmentation of annotation {row['id']} {error}; fix or remove it",
            )
            return None

    def valid(self, what: str, rows: list[Any], kinds: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The entries that are complete, each number once."""
        seen = set()
        for place, row in enumerate(rows):
            wrong = [
                key for key, kind in kinds.items() if not isinstance(row, dict) or not kind(row.get(key))
            ]
            if wrong:
                came = f"{wrong[0]} {row.get(wrong[0])!r}" if isinstance(row, dict) else repr(row)
                self.findings.error(
                    f"{what} entries that are incomplete",
                    f"{self.file}: entry {place} of the {what} list must have {', '.join(kinds)} as COCO has "
                    f"them, got {came[:80]}; fix or remove it",
                )
            elif row["id"] in seen:
                self.findings.error(
                    f"{what} numbers that occur twice",
                    f"{self.file}: every {what} must have its own id, got {row['id']} twice; number them",
                )
            else:
                seen.add(row["id"])
                # Some tools write 40.0 for 40.
                integers = {
                    key: int(row[key]) for key, kind in kinds.items() if kind in (is_integer, is_side)
                }
                yield {**row, **integers}


def is_integer(value: Any) -> bool:
    """Whether a value of JSON is an integer that a tensor can hold, written as 40 or as 40.0."""
    if type(value) is float:
        return value.is_integer() and abs(value) < LARGEST
    return type(value) is int and abs(value) < 2**63


def is_side(value: Any) -> bool:
    """Whether a value of JSON is the side of an image in pixels."""
    return is_integer(value) and value > 0


def trainable(annotations: Sequence[Annotation]) -> list[Annotation]:
    """The annotations to train on: those with a box and, if needed, a mask, without crowds."""
    return [row for row in annotations if row.corners is not None and not row.crowd]


def clip(box: Box, image: CocoImage) -> Box | None:
    """The corners of a box clipped to its image; None where the box is outside."""
    left, top, width, height = box
    inside = (
        max(0.0, left),
        max(0.0, top),
        min(float(image.width), left + width),
        min(float(image.height), top + height),
    )
    return inside if inside[0] < inside[2] and inside[1] < inside[3] else None
