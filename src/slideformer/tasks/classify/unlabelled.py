# SPDX-License-Identifier: Apache-2.0
"""A folder of images without labels, in two parts: when a folder is one, and its reader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from slideformer.errors import UserError
from slideformer.tasks.classify.folders import part_of
from slideformer.tasks.images import SUFFIXES, check_folder, image_paths, is_readable, read_image
from slideformer.tasks.walk import folders_of

# The part that is held out where none is given.
HELD_OUT = 0.1
# The class number of an image without a label; nobody looks at it.
NO_LABEL = 0


def has_labels(root: Path, class_names: Sequence[str]) -> bool:
    """Whether the folders in a folder are labels: ``train/`` and ``val/``, or all classes of the teacher.

    Args:
        root: the folder.
        class_names: of the teacher; empty if unknown.

    Raises:
        UserError: some are classes of the teacher, but not all.
    """
    check_folder("`data`", root)
    found = {folder.name for folder in folders_of(root)}
    if {"train", "val"} <= found:
        return True
    classes = found & set(class_names)
    if classes and (found ^ set(class_names)):
        missing, foreign = sorted(set(class_names) - found), sorted(found - set(class_names))
        raise UserError(
            f"the folders in {root} must be all classes of `teacher` or none of them, got without "
            f"{', '.join(missing) or 'none'} and with the foreign {', '.join(foreign) or 'none'}; add or "
            "rename folders, or put images without labels into folders of other names"
        )
    return bool(classes)


def check_labelled(root: Path) -> None:
    """Check that a folder is not one of images alone, of which only a teacher knows the classes."""
    check_folder("`data`", root)
    if not folders_of(root) and next(image_paths(root), None) is not None:
        raise UserError(
            f"images must be in the folder of their class, or a `teacher` must know it, got {root} with "
            "images alone; put them into class folders, or give a teacher"
        )


class UnlabelledReader:
    """The images anywhere below a folder, of one part of them; which is which depends on their names alone.

    Args:
        root: the folder.
        fraction: of the images that is held out; one image at least, and never all.
        split: ``train``, or ``val`` for those held out.
    """

    def __init__(self, root: Path, fraction: float, split: str) -> None:
        paths = list(image_paths(root))
        if len(paths) < 2:
            raise UserError(
                f"{root} must hold 2 images ({', '.join(SUFFIXES)}), one to train on and one to hold out, "
                f"got {len(paths)}; add images"
            )
        kept = part_of(paths, root, fraction, split)
        self.paths = [path for path in paths if path in kept]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Read one image; the class number says nothing."""
        return read_image(self.paths[index]), NO_LABEL

    def name(self, index: int) -> str:
        """Return the path of one image."""
        return self.paths[index]

    def check(self) -> None:
        """Check that an image can be read."""
        if not any(map(is_readable, self.paths)):
            raise UserError(
                f"an image must be readable, got {len(self.paths)} that are not, the first "
                f"{self.paths[0]}; fix the images"
            )
