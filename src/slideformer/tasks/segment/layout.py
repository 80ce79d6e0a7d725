# SPDX-License-Identifier: Apache-2.0
"""The layouts of data sets: folders of images and label maps, and the names of the classes."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slideformer.errors import UserError
from slideformer.files import read_text
from slideformer.runs.run import Drawn
from slideformer.tasks.images import check_folder, image_paths

CLASSES = "classes.txt"
ADE20K_CLASSES, ADE20K_COUNT = "objectInfo150.txt", 150


def class_names(root: Path) -> tuple[str, ...]:
    """The lines of ``classes.txt``, the name of label 0 first."""
    path = root / CLASSES
    if not path.is_file():
        raise UserError(f"{root} must hold {CLASSES}, one class a line, that of label 0 first; write it")
    lines = [line.strip() for line in read_text(path).splitlines()]
    names = [line for line in lines if line]
    if not 2 <= len(names) <= 255 or len(set(names)) < len(names):
        raise UserError(
            f"{path} must name 2 to 255 different classes, one a line, got {len(names)} names, "
            f"{len(set(names))} of them different; correct it"
        )
    return tuple(names)


def ade20k_class_names(root: Path) -> tuple[str, ...]:
    """ADE20K's classes by its own table; their numbers where the data come without it."""
    path = root / ADE20K_CLASSES
    if not path.is_file():
        return tuple(str(number) for number in range(1, ADE20K_COUNT + 1))
    table = csv.DictReader(read_text(path).splitlines(), delimiter="\t")
    try:
        rows = [{key: x for key, x in row.items() if key} for row in table]
        names = [(row.get("Name") or row["Stuff"] or "").strip() for row in rows]
    except (KeyError, csv.Error) as error:
        raise UserError(
            f"{path} must be ADE20K's table with a column Name, got none; put the original back"
        ) from error
    if len(names) != ADE20K_COUNT or not all(names):
        raise UserError(f"{path} must name {ADE20K_COUNT} classes, got {len(names)}; put the original back")
    return tuple(names)


@dataclass(frozen=True)
class Layout:
    """A layout of a data set: a row of the table of layouts.

    Attributes:
        images: folder of the images of a split; braces stand for the name of the split.
        labels: folder of its label maps.
        splits: the names of ``train`` and ``val``.
        class_names: reads the names of the classes from the folder of the data set.
        unlabelled_zero: whether 0 means that a pixel has no label, and the classes begin with 1.
    """

    images: str
    labels: str
    splits: tuple[str, str] = ("train", "val")
    class_names: Callable[[Path], tuple[str, ...]] = class_names
    unlabelled_zero: bool = False

    def folders(self, root: Path, split: str) -> tuple[Path, Path]:
        """The folders of the images and of the label maps of ``train`` or ``val``."""
        name = self.splits[split == "val"]
        return root / self.images.format(name), root / self.labels.format(name)


LAYOUTS = (
    Layout("images/{}", "masks/{}"),
    Layout("{}", "masks/{}"),
    Layout(  # ADE20K
        "images/{}",
        "annotations/{}",
        ("training", "validation"),
        class_names=ade20k_class_names,
        unlabelled_zero=True,
    ),
)


@dataclass(frozen=True)
class Pair:
    """An image and its label map.

    Attributes:
        image: file of the image.
        labels: file of the label map.
    """

    image: Path
    labels: Path


@dataclass(frozen=True)
class Split:
    """The files of a split.

    Attributes:
        pairs: images with label maps, in the order of their names.
        images_alone: images without a label map.
        labels_alone: label maps without an image.
        doubles: files whose name without its ending another file before them has.
    """

    pairs: tuple[Pair, ...]
    images_alone: tuple[Path, ...]
    labels_alone: tuple[Path, ...]
    doubles: tuple[Path, ...]


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        root: its folder.
        layout: how its folders are named.
        class_names: in the order of their numbers.
        drawn: on which pixels labels were drawn, where the size of an image does not show it.
    """

    root: Path
    layout: Layout
    class_names: tuple[str, ...]
    drawn: Drawn = "upright"

    def split(self, split: str) -> Split:
        """The files of ``train`` or ``val``, matched by name."""
        folders = self.layout.folders(self.root, split)
        for what, folder in zip(("images", "label maps"), folders, strict=True):
            check_folder(f"the {what} of {split}", folder)
        (images, doubles), (labels, more) = (by_name(folder) for folder in folders)
        return Split(
            tuple(Pair(images[name], labels[name]) for name in images if name in labels),
            tuple(path for name, path in images.items() if name not in labels),
            tuple(path for name, path in labels.items() if name not in images),
            (*doubles, *more),
        )


def by_name(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Images below a folder by their path in it without an ending, and those whose name was taken."""
    files: dict[str, Path] = {}
    doubles = []
    for path in map(Path, image_paths(folder)):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if files.setdefault(name, path) is not path:
            doubles.append(path)
    return files, doubles


def open_source(root: str | Path, drawn: Drawn = "upright") -> Source:
    """Open the data set in a folder.

    Args:
        root: the folder.
        drawn: on which pixels labels were drawn, where the size of an image does not show it.

    Raises:
        UserError: the folder has none of the layouts, or its classes have no names.
    """
    root = Path(root)
    check_folder("`data`", root)
    for layout in LAYOUTS:
        if any(all(folder.is_dir() for folder in layout.folders(root, split)) for split in ("train", "val")):
            return Source(root, layout, layout.class_names(root), drawn)
    known = "; ".join(
        f"{layout.images.format(split)}/ and {layout.labels.format(split)}/"
        for layout in LAYOUTS
        for split in layout.splits[:1]
    )
    found = ", ".join(sorted(entry.name for entry in root.iterdir() if entry.is_dir())) or "nothing"
    raise UserError(f"{root} must hold images and label maps as {known}, got {found}; rename its folders")
