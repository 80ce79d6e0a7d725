# SPDX-License-Identifier: Apache-2.0
"""Label maps as PNGs, which show colours and read as numbers."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from slideformer_runtime.errors import UserError
from slideformer_runtime.results import Segmentation

SUFFIX = "_labels"
COLOURS = 256
# The golden section of the circle of hues: neighbours in number are far apart in colour.
TURN = 0.618034


class LabelFiles:
    """A folder of label maps, each named after its image.

    A name gets a number where another label map or one of the images has it already.

    Args:
        folder: created where it does not exist.
        images: paths of those that are known before; a label map never replaces one.

    Raises:
        UserError: the folder is a file, or cannot be created.
    """

    def __init__(self, folder: Path, images: Iterable[str] = ()) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"`output` must be a folder, got {folder} ({error.strerror}); choose another place"
            ) from error
        self.folder = folder
        self._taken = {os.path.realpath(image) for image in images}

    def write(self, result: Segmentation) -> Path:
        """Write the label map of an image, completely or not at all, and return its PNG."""
        self._taken.add(os.path.realpath(result.path))
        file = self._free_name(Path(result.path).stem)
        image = Image.fromarray(result.label_map)
        if result.label_map.dtype == np.uint8:
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

    def _free_name(self, stem: str) -> Path:
        file, number = self.folder / f"{stem}{SUFFIX}.png", 1
        while os.path.realpath(file) in self._taken:
            number += 1
            file = self.folder / f"{stem}-{number}{SUFFIX}.png"
        self._taken.add(os.path.realpath(file))
        return file


def palette() -> list[int]:
    """Return red, green and blue of each number in turn; black for 0, which is often the background."""
    colours = [(0.0, 0.0, 0.0)]
    colours += [colorsys.hsv_to_rgb(number * TURN % 1, 0.75, 0.95) for number in range(1, COLOURS)]
    return [round(255 * value) for colour in colours for value in colour]
