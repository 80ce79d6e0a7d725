# SPDX-License-Identifier: Apache-2.0
"""Checks of a classification data set, before a training."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import cast

from slideformer.errors import UserError, check_range
from slideformer.tasks.classify.folders import FolderReader
from slideformer.tasks.classify.sources import Request, open_folder
from slideformer.tasks.images import SUFFIXES, UnreadableImageError, read_image
from slideformer.tasks.training.findings import Findings, Progress
from slideformer.tasks.walk import files_below

# The largest class may have so many times the images of another, an image's longer side so many times the
# shorter, before it is worth a line.
UNBALANCED, LONG = 10, 3
SPLITS = ("train", "val")


@dataclass(frozen=True)
class Look:
    """The result of a look at one image.

    Attributes:
        split: ``train`` or ``val``.
        class_name: the class whose folder it is in.
        path: of its file.
        size: width and height in pixels, upright; None where it cannot be read.
        pixels: a hash of its pixels, the same in whatever lossless format they are stored.
        unreadable: why it cannot be read; empty if it can.
    """

    split: str
    class_name: str
    path: str
    size: tuple[int, int] | None = None
    pixels: bytes = b""
    unreadable: str = ""


def check_data(
    source: str | Path, *, val_fraction: float | None = None, progress: Progress | None = None
) -> Findings:
    """Check the images of both splits; every one is read.

    Args:
        source: folder with ``train/`` and ``val/``, each with one folder of images a class, or with the class
            folders themselves.
        val_fraction: in the latter case, the part of each class that is held out.
        progress: called after each image with the number done and the number of all.

    Raises:
        UserError: the fraction is out of its range.
    """
    check_range("`val_fraction`", val_fraction, 0.001, 0.999)
    findings, root = Findings(), Path(source)
    try:
        opened = open_folder(Request(name=str(source), val_fraction=val_fraction))
    except UserError as error:  # of the folder itself
        findings.error("folders that cannot be used", str(error))
        return findings
    names = opened.class_names
    findings.facts.append(f"{len(names)} classes: {', '.join(names)}")
    files = [
        (split, names[number], path)
        for split in SPLITS
        for path, number in cast("FolderReader", opened.open(split)).images
    ]
    seen = []
    for done, look in enumerate(looks(files), start=1):
        if look.unreadable:
            findings.left_out("unreadable images", f"{look.path} ({look.unreadable})")
        else:
            seen.append(look)
        if progress is not None:
            progress(done, len(files))
    for split in SPLITS:
        check_classes(split, names, [look for look in seen if look.split == split], findings)
    check_sizes(seen, findings)
    check_copies(seen, findings)
    for folder in [root] if val_fraction is not None else [root / split for split in SPLITS]:
        check_others(folder, names, findings)
    return findings


def looks(files: Sequence[tuple[str, str, str]]) -> Iterator[Look]:
    """Look at each image, in order, several at a time."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(look_at, files)


def look_at(file: tuple[str, str, str]) -> Look:
    """Read one image.

    Args:
        file: its split, class and path.
    """
    try:
        image = read_image(file[2])
    except UnreadableImageError as error:
        return Look(*file, unreadable=error.reason)
    return Look(*file, image.size, sha256(repr(image.size).encode() + image.tobytes()).digest())


def check_classes(split: str, names: Sequence[str], seen: Sequence[Look], findings: Findings) -> None:
    """Add to the findings how many images each class has in one split."""
    counts = Counter(dict.fromkeys(names, 0))
    counts.update(look.class_name for look in seen)
    (largest, most), (smallest, least) = counts.most_common()[0], counts.most_common()[-1]
    each = f"{least} each" if least == most else f"{least} ({smallest}) to {most} ({largest}) each"
    findings.facts.append(f"{split}: {len(seen)} readable images, {each}")
    for name in names:
        if counts[name] == 0 and split == "train":
            findings.error(
                "classes without a readable image",
                f"every class must hold an image that can be read, got none of {name} in {split}; "
                "fix the images or remove the folder",
            )
        elif counts[name] == 0:
            findings.warn(f"classes that no readable image of {split} is of", name)
        elif counts[name] * UNBALANCED < most:
            findings.warn(
                f"classes of {split} with less than a tenth of the images of the largest",
                f"{name}: {counts[name]} of {most}",
            )


def check_sizes(seen: Sequence[Look], findings: Findings) -> None:
    """Add to the findings how large the images are, and which are so long that a crop loses most of them."""
    sizes = sorted((look.size for look in seen if look.size), key=lambda size: (size[0] * size[1], size))
    if not sizes:
        return
    smallest, median, largest = (f"{w} x {h}" for w, h in (sizes[0], sizes[len(sizes) // 2], sizes[-1]))
    findings.facts.append(
        f"all images are {smallest} pixels"
        if sizes[0] == sizes[-1]
        else f"images of {smallest} to {largest} pixels, in the middle {median}"
    )
    for look in seen:
        if look.size and max(look.size) >= LONG * min(look.size):
            findings.note(
                f"images of at least {LONG} to 1, of which a square crop shows a part",
                f"{look.path}: {look.size[0]} x {look.size[1]}",
            )


def check_copies(seen: Sequence[Look], findings: Findings) -> None:
    """Add to the findings the images whose pixels occur again: in another class, split, or next to them."""
    same = defaultdict[bytes, list[Look]](list)
    for look in seen:
        same[look.pixels].append(look)
    for copies in same.values():
        if len(copies) < 2:
            continue
        kinds = []
        if len({look.class_name for look in copies}) > 1:
            kinds.append((findings.warn, "images that are in two classes", "class_name"))
        if len({look.split for look in copies}) > 1:
            kinds.append((findings.warn, "images that are in both train and val", "split"))
        if not kinds:
            kinds.append((findings.note, "images that a class has twice", "path"))
        for add, kind, differs in kinds:
            one, other = next(
                (a, b) for a, b in combinations(copies, 2) if getattr(a, differs) != getattr(b, differs)
            )
            add(kind, f"{one.path} = {other.path}")


def check_others(folder: Path, names: Sequence[str], findings: Findings) -> None:
    """Add to the findings the files of the class folders that no reader takes for images."""
    homes = {os.path.realpath(folder / name) for name in names}
    for name in names:
        for path in files_below(folder / name, homes):
            if not path.lower().endswith(SUFFIXES):
                findings.left_out(f"files that are not named as an image ({', '.join(SUFFIXES)})", path)
