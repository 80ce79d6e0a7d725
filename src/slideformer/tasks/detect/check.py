# SPDX-License-Identifier: Apache-2.0
"""A look at all of a detection data set before a training begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slideformer.errors import UserError
from slideformer.runs.run import Drawn
from slideformer.tasks.detect.coco import CocoSet, Picture, read_coco, trainable
from slideformer.tasks.detect.layout import find_split
from slideformer.tasks.images import UnreadableImageError, read_image
from slideformer.tasks.orientation import ambiguity, read_header
from slideformer.tasks.training.findings import Findings

Progress = Callable[[int, int], None]


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
    """Look at annotations and pictures of both sides, every picture read whole.

    Args:
        source: folder in COCO's layout.
        train_annotations: file, where it lies elsewhere.
        val_annotations: file, where it lies elsewhere.
        train_images: folder, where it lies elsewhere.
        val_images: folder, where it lies elsewhere.
        with_masks: whether masks are needed.
        orientation: on which pixels annotations were drawn, where the size of a picture does not show it.
        progress: called after each picture with the number done and the number of all.
    """
    findings = Findings()
    sides = (("train", train_annotations, train_images), ("val", val_annotations, val_images))
    sets = []
    for side in sides:
        try:
            split = find_split(source, *side)
            sets.append(read_coco(split, findings, with_masks=with_masks, drawn=orientation))
        except UserError as error:  # of the file as a whole
            findings.error("files that cannot be used", str(error))
    if len(sets) == len(sides):
        check_sides(sets[0], sets[1], findings)
    pictures = [(data, picture) for data in sets for picture in data.pictures if picture.file.is_file()]
    readable = set()
    for done, (data, picture) in enumerate(pictures, start=1):
        check_picture(data, picture, findings)
        try:
            read_image(picture.file)
        except UnreadableImageError as error:
            findings.left_out("unreadable pictures", f"{picture.file} ({error.reason})")
        else:
            readable.add(data.file)
        if progress is not None:
            progress(done, len(pictures))
    if not findings.errors and sets[0].file not in readable:
        findings.error(
            "sides without a readable picture",
            f"{sets[0].file} must list a picture that can be read, got none; put back the pictures",
        )
    return findings


def check_sides(train: CocoSet, val: CocoSet, findings: Findings) -> None:
    """Find out what both sides together are good for; the same verdict for a training and before it."""
    compare_categories(train, val, findings)
    if not findings.errors and not any(map(trainable, train.annotations.values())):
        came = findings.summary() or "no annotations"
        findings.error(
            "sides without an object",
            f"{train.file} must hold an object to train on, got none ({came}); annotate some",
        )
    if not any(val.annotations.values()):
        findings.warn("sides that no training can be judged by, without an object", str(val.file))


def compare_categories(train: CocoSet, val: CocoSet, findings: Findings) -> None:
    """Find out whether both sides have the same classes."""
    if train.categories == val.categories:
        return
    train_rows, val_rows = set(train.categories.items()), set(val.categories.items())
    only_train, only_val = (
        ", ".join(f"{number} {name}" for number, name in sorted(rows)[:5]) or "none"
        for rows in (train_rows - val_rows, val_rows - train_rows)
    )
    findings.error(
        "sides of different classes",
        f"{train.file} and {val.file} must list the same categories, got only in the first: {only_train}; "
        f"only in the second: {only_val}; make them agree",
    )


def check_picture(data: CocoSet, picture: Picture, findings: Findings) -> None:
    """Compare a picture's own size with the one annotated, without reading its pixels."""
    try:
        header = read_header(picture.file)
    except UnreadableImageError:
        return  # training leaves it out or stops, as it was told to
    drawn = header.drawn((picture.width, picture.height), data.drawn)
    if drawn is None:
        message = size_refusal(data.file, picture, header.stored)
        findings.error("pictures of another size than annotated", message)
    elif header.ambiguous:
        findings.note(ambiguity(drawn), str(picture.file))
    elif drawn == "upright" and header.orientation != 1:
        findings.note("pictures turned upright, as they are annotated", str(picture.file))


def size_refusal(file: Path, picture: Picture, came: tuple[int, int]) -> str:
    """What is said of a picture whose size is not the annotated one."""
    return (
        f"{picture.file} (image {picture.image_id} of {file}) must be {picture.width} x {picture.height} "
        f"pixels as annotated, got {came[0]} x {came[1]}; annotate it anew or put back the picture"
    )
