# SPDX-License-Identifier: Apache-2.0
"""Checks of a folder of images, one folder a class, before any training begins."""

from __future__ import annotations

import os
from pathlib import Path

from slideformer.errors import UserError
from slideformer.tasks.images import SUFFIXES, image_paths, refuse_no_folder
from slideformer.tasks.walk import folders_of


def class_names(folder: Path) -> list[str]:
    """Names of the classes in a folder, sorted: its sub-folders, each with an image."""
    refuse_no_folder("the data", folder)
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
    refuse_no_folder("--data", root)
    folder = root / split
    if not folder.is_dir():
        found = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        raise UserError(
            f"{root} must hold train/ and val/, got no {split}/ (found: {', '.join(found) or 'nothing'}); "
            "split the images into the two"
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
    if len(train) < 2:
        raise UserError(
            f"{root} must hold two classes or more, got {train[0]} alone; add a folder for the rest"
        )
    return train
