# SPDX-License-Identifier: Apache-2.0
"""Reading annotations in COCO's format, with every reference followed and every oddity counted."""

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


@dataclass(frozen=True)
class Picture:
    """A picture of the set.

    Attributes:
        image_id: its number in the file.
        file: where it lies.
        height: in pixels, as the file says.
        width: in pixels, as the file says.
    """

    image_id: int
    file: Path
    height: int
    width: int


@dataclass(frozen=True)
class Annotation:
    """An object, or a crowd of them, on a picture.

    Attributes:
        annotation_id: its number in the file.
        label: number of its class, from 1, without holes.
        box: left, top, width and height in pixels, as the file says.
        corners: left, top, right and bottom, clipped to the picture; None where nothing is left to train on.
        area: in pixels, as the file says.
        crowd: whether it is a region of many objects, which is neither trained on nor counted as missed.
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
    """Pictures and their annotations.

    Attributes:
        file: the annotations.
        pictures: by their numbers, ascending: the order in which COCO's tools rank equal scores.
        annotations: of each picture, by its number; in the order of the file.
        categories: names by the file's own numbers, ascending; the first is label 1.
        drawn: on which pixels annotations were drawn, where the size of a picture does not show it.
    """

    file: Path
    pictures: tuple[Picture, ...]
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
    """Read annotations; what is wrong with single ones goes into the findings, and they are not in the set.

    Args:
        split: file and folder.
        findings: is told what is wrong, left out or worth knowing.
        with_masks: whether masks are needed; if not, they are not looked at.
        drawn: on which pixels annotations were drawn, where the size of a picture does not show it.

    Raises:
        UserError: the file as a whole is not what it must be.
    """
    document = load(split.annotations)
    reader = Reader(split, findings, with_masks)
    categories = reader.categories(document["categories"])
    pictures = reader.pictures(document["images"])
    annotations = reader.annotations(document["annotations"], pictures, list(categories))
    objects = sum(len(rows) for rows in annotations.values())
    empty = sum(not annotations[image_id] for image_id in pictures)
    findings.facts.append(
        f"{split.name}: {len(pictures)} pictures ({empty} without an object), {objects} annotations, "
        f"{len(categories)} classes ({split.annotations})"
    )
    ordered = tuple(pictures[image_id] for image_id in sorted(pictures))
    return CocoSet(split.annotations, ordered, annotations, categories, drawn)


def load(file: Path) -> dict[str, Any]:
    """The three lists of COCO's format."""
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
    """Follows the lists of one file.

    Args:
        split: file and folder.
        findings: is told what is wrong.
        with_masks: whether masks are needed.
    """

    def __init__(self, split: Split, findings: Findings, with_masks: bool) -> None:
        self.split, self.findings, self.with_masks = split, findings, with_masks
        self.file = split.annotations

    def categories(self, rows: list[Any]) -> dict[int, str]:
        """Names of the classes by number, ascending, holes and all."""
        kinds = {"id": is_whole, "name": lambda value: isinstance(value, str)}
        names = dict(sorted((row["id"], row["name"]) for row in self.valid("category", rows, kinds)))
        for name, count in Counter(names.values()).items():
            if count > 1:
                numbers = ", ".join(str(number) for number, other in names.items() if other == name)
                self.findings.warn("names that several categories have", f"{name!r} of {numbers}")
        return names

    def pictures(self, rows: list[Any]) -> dict[int, Picture]:
        """The pictures by number, those that are not there left out."""
        kinds = {
            "id": is_whole,
            "file_name": lambda value: isinstance(value, str) and bool(value),
            "height": is_side,
            "width": is_side,
        }
        pictures: dict[int, Picture] = {}
        files = set()
        for row in self.valid("image", rows, kinds):
            file = self.split.images / row["file_name"]
            pictures[row["id"]] = Picture(row["id"], file, row["height"], row["width"])
            if file in files:
                self.findings.warn("pictures that several images name", f"{file} of image {row['id']}")
            files.add(file)
            if not file.is_file():
                self.findings.error(
                    "pictures that are not there",
                    f"{self.file}: the file of image {row['id']} must exist, got {file}, which does not; "
                    f"put it there, or name the folder of pictures with --data.{self.split.name}_images",
                )
        return pictures

    def annotations(
        self, rows: list[Any], pictures: dict[int, Picture], category_ids: list[int]
    ) -> dict[int, list[Annotation]]:
        """The annotations of each picture."""
        kinds = {
            "id": is_whole,
            "image_id": is_whole,
            "category_id": is_whole,
            "bbox": lambda value: isinstance(value, list) and len(value) == 4 and all(map(is_number, value)),
            "iscrowd": lambda value: value in (None, 0, 1),
        }
        labels = {category_id: label for label, category_id in enumerate(category_ids, start=1)}
        found: dict[int, list[Annotation]] = {image_id: [] for image_id in pictures}
        for row in self.valid("annotation", rows, kinds):
            dangling = [
                (key, what)
                for key, what, known in (("image_id", "image", pictures), ("category_id", "category", labels))
                if row[key] not in known
            ]
            for key, what in dangling:
                self.findings.error(
                    f"annotations of an unknown {what}",
                    f"{self.file}: annotation {row['id']} must belong to a listed {what}, got {key} "
                    f"{row[key]}, which is not; list it or remove the annotation",
                )
            if not dangling:
                annotation = self.annotation(row, pictures[row["image_id"]], labels[row["category_id"]])
                found[row["image_id"]].append(annotation)
        return found

    def annotation(self, row: dict[str, Any], picture: Picture, label: int) -> Annotation:
        """One annotation, whose references hold."""
        where = f"{self.file.name} annotation {row['id']}"
        box: Box = tuple(float(value) for value in row["bbox"])  # type: ignore[assignment]
        corners = clip(box, picture)
        crowd = bool(row.get("iscrowd", 0))
        mask = self.mask(row, picture)
        if crowd:
            self.findings.note("crowd regions, neither trained on nor counted as missed", where)
        elif box[2] <= 0 or box[3] <= 0:
            self.findings.left_out("boxes without an area", where)
        elif corners is None:
            self.findings.left_out("boxes outside of their picture", where)
        elif self.with_masks and mask is None:
            self.findings.left_out("empty masks", where)
            corners = None
        elif corners != (box[0], box[1], box[0] + box[2], box[1] + box[3]):
            self.findings.note("boxes that reach beyond their picture, clipped in training", where)
        area = row.get("area")
        if area is None or not is_number(area):
            self.findings.note("annotations without an area, computed instead", where)
            area = masks.area(mask) if mask is not None else box[2] * box[3]
        return Annotation(row["id"], label, box, corners, float(area), crowd, mask)

    def mask(self, row: dict[str, Any], picture: Picture) -> RunLengths | None:
        """The pixels of an annotation, where they are needed and there."""
        if not self.with_masks:
            return None
        try:
            return masks.from_annotation(row.get("segmentation"), picture.height, picture.width)
        except UserError:
            raise
        except ValueError as error:
            self.findings.error(
                "masks that are none",
                f"{self.file}: the segmentation of annotation {row['id']} {error}; mend or remove it",
            )
            return None

    def valid(self, what: str, rows: list[Any], kinds: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The entries that have what they must have, each number once."""
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
                    f"them, got {came[:80]}; mend or remove it",
                )
            elif row["id"] in seen:
                self.findings.error(
                    f"{what} numbers that are there twice",
                    f"{self.file}: every {what} must have its own id, got {row['id']} twice; number them",
                )
            else:
                seen.add(row["id"])
                # Some tools write 40.0 for 40.
                wholes = {key: int(row[key]) for key, kind in kinds.items() if kind in (is_whole, is_side)}
                yield {**row, **wholes}


def is_whole(value: Any) -> bool:
    """Whether a value of JSON is a whole number that a tensor can hold, written as 40 or as 40.0."""
    if type(value) is float:
        return value.is_integer() and abs(value) < LARGEST
    return type(value) is int and abs(value) < 2**63


def is_side(value: Any) -> bool:
    """Whether a value of JSON is a side of a picture in pixels."""
    return is_whole(value) and value > 0


def trainable(annotations: Sequence[Annotation]) -> list[Annotation]:
    """The annotations to train on: neither crowds nor what has no box or mask."""
    return [row for row in annotations if row.corners is not None and not row.crowd]


def clip(box: Box, picture: Picture) -> Box | None:
    """The corners of a box within its picture, or None where nothing of it is."""
    left, top, width, height = box
    inside = (
        max(0.0, left),
        max(0.0, top),
        min(float(picture.width), left + width),
        min(float(picture.height), top + height),
    )
    return inside if inside[0] < inside[2] and inside[1] < inside[3] else None
