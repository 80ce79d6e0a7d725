# SPDX-License-Identifier: Apache-2.0
"""The layout of a data set in COCO's format: files of annotations, folders of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slideformer.errors import UserError
from slideformer.tasks.images import check_folder


@dataclass(frozen=True)
class Split:
    """The training set or the hold-out of a data set.

    Attributes:
        name: ``"train"`` or ``"val"``.
        annotations: file of COCO's JSON.
        images: folder to which that file's names are relative.
    """

    name: str
    annotations: Path
    images: Path


def find_split(
    source: str | Path, name: str, annotations: str | Path | None = None, images: str | Path | None = None
) -> Split:
    """Find one split of ``DIR/annotations/instances_{train,val}*.json`` and ``DIR/{train,val}*/``.

    Args:
        source: the folder.
        name: ``"train"`` or ``"val"``.
        annotations: the file, where it is elsewhere.
        images: the folder of images, where it is elsewhere.
    """
    root = Path(source)
    if annotations is None or images is None:
        check_folder("`data`", root)
    file = find_annotations(root, name) if annotations is None else Path(annotations)
    if not file.is_file():
        raise UserError(f"`{name}_annotations` must be a file of COCO's JSON, got {file}; check the path")
    folder = find_images(root, name, file) if images is None else Path(images)
    check_folder(f"`{name}_images`", folder)
    return Split(name, file, folder)


def find_annotations(root: Path, name: str) -> Path:
    """The one file of a split's annotations."""
    found = sorted((root / "annotations").glob(f"instances_{name}*.json"))
    if len(found) != 1:
        came = ", ".join(file.name for file in found) or "none"
        raise UserError(
            f"{root / 'annotations'} must hold one instances_{name}*.json, got {came}; "
            f"name it with `{name}_annotations`"
        )
    return found[0]


def find_images(root: Path, name: str, annotations: Path) -> Path:
    """The folder of a split's images: the one named like its annotations, else the only one."""
    named = root / annotations.stem.removeprefix("instances_")
    if named.is_dir():
        return named
    found = sorted(folder for folder in root.glob(f"{name}*") if folder.is_dir())
    if len(found) != 1:
        came = ", ".join(f"{folder.name}/" for folder in found) or "none"
        raise UserError(
            f"{root} must hold one folder {name}*/ of images, got {came}; name it with `{name}_images`"
        )
    return found[0]
