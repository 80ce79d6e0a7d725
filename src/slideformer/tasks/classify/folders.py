# SPDX-License-Identifier: Apache-2.0
"""A folder of images, one folder a class: its checks and its reader."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from PIL import Image

from slideformer.errors import UserError
from slideformer.tasks.images import SUFFIXES, check_folder, image_paths, is_readable, read_image
from slideformer.tasks.walk import folders_of


def class_names(folder: Path) -> list[str]:
    """Names of the classes in a folder, sorted: its sub-folders, each with an image."""
    check_folder("`data`", folder)
    names = [entry.name for entry in folders_of(folder)]
    if not names:
        raise UserError(
            f"{folder} must hold one folder of images for each class, got none; "
            f"put the images of class NAME into {folder / 'NAME'}"
        )
    homes = {os.path.realpath(folder / name) for name in names}
    empty = [name for name in names if next(image_paths(folder / name, others=homes), None) is None]
    if empty:
        raise UserError(
            f"every class folder must hold an image ({', '.join(SUFFIXES)}), got none in "
            f"{', '.join(str(folder / name) for name in empty)}; add images or remove the folder"
        )
    return names


def split_folder(root: Path, split: str) -> Path:
    """The folder of one split."""
    check_folder("`data`", root)
    folder = root / split
    if not folder.is_dir():
        found = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        raise UserError(
            f"{root} must hold train/ and val/, got no {split}/ (found: {', '.join(found) or 'nothing'}); "
            "split the images into the two, or hold a part of each class out with `val_fraction` 0.2"
        )
    return folder


def shared_class_names(root: Path) -> list[str]:
    """Names of the classes of ``root/train`` and ``root/val``, which must be the same."""
    train, val = (class_names(split_folder(root, split)) for split in ("train", "val"))
    only_train, only_val = sorted(set(train) - set(val)), sorted(set(val) - set(train))
    if only_train or only_val:
        raise UserError(
            f"train/ and val/ of {root} must hold the same classes, got only in train/: "
            f"{', '.join(only_train) or 'none'}; only in val/: {', '.join(only_val) or 'none'}; "
            "rename or add folders until they agree"
        )
    check_classes(root, train)
    return train


def parted_class_names(root: Path) -> list[str]:
    """Names of the classes of a folder of class folders, of which a part is held out."""
    names = class_names(root)
    if {"train", "val"} <= set(names):
        raise UserError(f"{root} has train/ and val/, which are the two parts; leave `val_fraction` out")
    check_classes(root, names)
    counts = Counter(target for _, target in FolderReader(root, names).images)
    alone = [name for number, name in enumerate(names) if counts[number] < 2]
    if alone:
        raise UserError(
            "every class must have 2 images, one to train on and one to hold out, got 1 in "
            f"{', '.join(alone)}; add images"
        )
    return names


def check_classes(root: Path, names: Sequence[str]) -> None:
    """Check that there is something to tell apart."""
    if len(names) < 2:
        raise UserError(
            f"{root} must hold two classes or more, got {names[0]} alone; add a folder for the rest"
        )


def hold_out(root: Path) -> Path:
    """The folder of the hold-out: ``val/``, or the root where that holds the class folders."""
    return root / "val" if (root / "val").is_dir() else root


def hold_out_class_names(root: Path) -> list[str]:
    """Names of the classes of the hold-out alone."""
    return class_names(hold_out(root))


def open_split(root: Path, names: Sequence[str], split: str) -> FolderReader:
    """The images of ``train`` or ``val``."""
    return FolderReader(root / "train" if split == "train" else hold_out(root), names)


def open_part(root: Path, names: Sequence[str], fraction: float, split: str) -> FolderReader:
    """The images of one part of each class, the same always: by a hash of their names, not by chance.

    Args:
        root: holds the class folders.
        names: of the classes, in the order of their numbers.
        fraction: of each class that is held out; one image at least, and never all.
        split: ``train``, or ``val`` for those held out.
    """
    reader = FolderReader(root, names)
    kept = set[str]()
    for number in range(len(names)):
        kept |= part_of([path for path, target in reader.images if target == number], root, fraction, split)
    reader.images = [image for image in reader.images if image[0] in kept]
    return reader


def part_of(paths: Iterable[str], root: Path, fraction: float, split: str) -> set[str]:
    """Those of some paths, of the same kind, that are of a part: see `open_part`."""
    ordered = sorted(paths, key=lambda path: sha256(os.fsencode(os.path.relpath(path, root))).digest())
    count = min(max(1, round(fraction * len(ordered))), len(ordered) - 1)
    return set(ordered[:count] if split == "val" else ordered[count:])


class FolderReader:
    """Images anywhere below a folder, whose sub-folders are the classes.

    Timm's own reader takes the innermost folder for the class, and reads JPEG and PNG alone.

    Args:
        folder: holds the class folders.
        names: of the classes, in the order of their numbers.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        homes = {os.path.realpath(folder / name) for name in names}
        self.images = [
            (path, number)
            for number, name in enumerate(names)
            for path in image_paths(folder / name, others=homes)
        ]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Read one image and its class number."""
        path, target = self.images[index]
        return read_image(path), target

    def name(self, index: int) -> str:
        """Return the path of one image."""
        return self.images[index][0]

    def check_classes(self) -> None:
        """Check that every class has a readable image, before hours of training without it."""
        readable: set[int] = set()
        for path, target in self.images:
            if target not in readable and is_readable(path):
                readable.add(target)
        lost = [path for path, target in self.images if target not in readable]
        if lost:
            raise UserError(
                f"every class must hold an image that can be read, got none next to {lost[0]}; "
                "fix the images or remove the folder"
            )
