# SPDX-License-Identifier: Apache-2.0
"""Checks of a detection data set, before a training."""

from __future__ import annotations

from pathlib import Path

from slideformer.errors import UserError
from slideformer.runs.run import Drawn
from slideformer.tasks.detect.coco import EMPTY_MASKS, CocoImage, CocoSet, read_coco, trainable
from slideformer.tasks.detect.layout import find_split
from slideformer.tasks.images import UnreadableImageError, read_image
from slideformer.tasks.orientation import ambiguity, read_header
from slideformer.tasks.training.findings import LEFT_OUT, Findings, Progress


def check_data(
    source: str | Path,
    *,
    train_annotations: str | Path | None = None,
    val_annotations: str | Path | None = None,
    train_images: str | Path | None = None,
    val_images: str | Path | None = None,
    with_masks: bool = True,
    orientation: Drawn = "upright",
    progress: Progress | None = None,
) -> Findings:
    """Check annotations and images of both splits; every image is read.

    Args:
        source: folder in COCO's layout.
        train_annotations: file, where it is elsewhere.
        val_annotations: file, where it is elsewhere.
        train_images: folder, where it is elsewhere.
        val_images: folder, where it is elsewhere.
        with_masks: whether masks are needed.
        orientation: on which pixels annotations were drawn, where the size of an image does not show it.
        progress: called after each image with the number done and the number of all.
    """
    findings = Findings()
    sides = (("train", train_annotations, train_images), ("val", val_annotations, val_images))
    sets = []
    for side in sides:
        try:
            split = find_split(source, *side)
            sets.append(read_coco(split, findings, with_masks=with_masks, drawn=orientation))
        except UserError as error:  # of the file itself
            findings.error("files that cannot be used", str(error))
    if len(sets) == len(sides):
        check_splits(sets[0], sets[1], findings)
    images = [(data, image) for data in sets for image in data.images if image.file.is_file()]
    readable = set()
    for done, (data, image) in enumerate(images, start=1):
        check_image(data, image, findings)
        try:
            read_image(image.file)
        except UnreadableImageError as error:
            findings.left_out("unreadable images", f"{image.file} ({error.reason})")
        else:
            readable.add(data.file)
        if progress is not None:
            progress(done, len(images))
    if not findings.errors and sets[0].file not in readable:
        findings.error(
            "splits without a readable image",
            f"{sets[0].file} must list an image that can be read, got none; put back the images",
        )
    return findings


def check_splits(train: CocoSet, val: CocoSet, findings: Findings) -> None:
    """Check both splits together: whether they can be trained on and judged by."""
    compare_categories(train, val, findings)
    if not findings.errors and not any(map(trainable, train.annotations.values())):
        came = findings.summary() or "no annotations"
        boxes = any(finding.kind == EMPTY_MASKS for finding in findings.of(LEFT_OUT))
        findings.error(
            "splits without an object",
            f"{train.file} must hold an object to train on, got none ({came}); annotate some"
            + (", or train faster_rcnn or retinanet, which need boxes alone" if boxes else ""),
        )
    if not any(val.annotations.values()):
        findings.warn("splits that no training can be judged by, without an object", str(val.file))


def compare_categories(train: CocoSet, val: CocoSet, findings: Findings) -> None:
    """Check that both splits have the same classes."""
    if train.categories == val.categories:
        return
    train_rows, val_rows = set(train.categories.items()), set(val.categories.items())
    only_train, only_val = (
        ", ".join(f"{number} {name}" for number, name in sorted(rows)[:5]) or "none"
        for rows in (train_rows - val_rows, val_rows - train_rows)
    )
    findings.error(
        "splits of different classes",
        f"{train.file} and {val.file} must list the same categories, got only in the first: {only_train}; "
        f"only in the second: {only_val}; make them agree",
    )


def check_image(data: CocoSet, image: CocoImage, findings: Findings) -> None:
    """Compare the size of an image with the annotated one, without reading its pixels."""
    try:
        header = read_header(image.file)
    except UnreadableImageError:
        return  # training leaves it out or stops, as the user wants
    drawn = header.drawn((image.width, image.height), data.drawn)
    if drawn is None:
        message = size_message(data.file, image, header.stored)
        findings.error("images of another size than annotated", message)
    elif header.ambiguous:
        findings.note(ambiguity(drawn), str(image.file))
    elif drawn == "upright" and header.orientation != 1:
        findings.note("images rotated to upright, as they are annotated", str(image.file))


def size_message(file: Path, image: CocoImage, came: tuple[int, int]) -> str:
    """Return the error message for an image whose size is not the annotated one."""
    return (
        f"{image.file} (image {image.image_id} of {file}) must be {image.width} x {image.height} "
        f"pixels as annotated, got {came[0]} x {came[1]}; annotate it again or restore the image"
    )
