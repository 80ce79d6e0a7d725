# SPDX-License-Identifier: Apache-2.0
"""Label maps as PNGs, which show colours and read as numbers."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slideformer_runtime.errors import UserError

ENDING = "_labels"
COLOURS = 256
# The golden section of the circle of hues: neighbours in number are far apart in colour.
TURN = 0.618034


class LabelFiles:
    """A folder of label maps, each named after its picture.

    A name has a number where another label map or one of the pictures has it already.

    Args:
        folder: created where it does not exist.
        pictures: paths of those that are known before; a label map never replaces one.

    Raises:
        UserError: it is a file, or may not be created.
    """

    def __init__(self, folder: Path, pictures: Iterable[str] = ()) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"--output must be a folder, got {folder} ({error.strerror}); choose another place"
            ) from error
        self.folder = folder
        self._taken = {os.path.realpath(picture) for picture in pictures}

    def write(self, picture: str, labels: NDArray[np.unsignedinteger[Any]]) -> Path:
        """Write a label map, whole or not at all.

        Args:
            picture: path of the picture that it is of.
            labels: ``(height, width)``, of 8 or 16 bits.

        Returns:
            The PNG.

        Raises:
            UserError: the system refuses.
        """
        self._taken.add(os.path.realpath(picture))
        file = self._file(Path(picture).stem)
        image = Image.fromarray(labels)
        if labels.dtype == np.uint8:
            image.putpalette(palette())
        unfinished = file.with_name(f".{file.name}.unfinished")
        try:
            image.save(unfinished, format="PNG")
            os.replace(unfinished, file)
        except OSError as error:
            reason = error.strerror if error.strerror is not None else error
            raise UserError(
                f"{file} must be writable, but {reason}; make room or choose another place"
            ) from error
        finally:
            unfinished.unlink(missing_ok=True)
        return file

    def _file(self, stem: str) -> Path:
        file, number = self.folder / f"{stem}{ENDING}.png", 1
        while os.path.realpath(file) in self._taken:
            number += 1
            file = self.folder / f"{stem}-{number}{ENDING}.png"
        self._taken.add(os.path.realpath(file))
        return file


def palette() -> list[int]:
    """Red, green and blue of each number, one after another; black for 0, as often the background."""
    colours = [(0.0, 0.0, 0.0)]
    colours += [colorsys.hsv_to_rgb(number * TURN % 1, 0.75, 0.95) for number in range(1, COLOURS)]
    return [round(255 * value) for colour in colours for value in colour]
