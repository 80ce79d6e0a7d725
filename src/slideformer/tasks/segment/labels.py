# SPDX-License-Identifier: Apache-2.0
"""Label maps: reading them as class numbers, and laying them on their picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from slideformer.errors import UserError
from slideformer.tasks.pictures import read_image
from slideformer.tasks.segment.layout import Pair, Source

# What no class is: it is neither learnt nor counted.
IGNORED = 255
LOSSY = (".jpg", ".jpeg", ".webp")
# A camera's orientations that swap height and width, and what turns such a picture upright.
QUARTER_TURNS = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What is known of a pair beside its pixels, in the plural.
WIDE, COLOURED, TURNED = (
    "label maps of 16 bits",
    "label maps stored in colour, all channels equal",
    "label maps turned upright with their picture",
)


class LabelError(UserError):
    """A label map that cannot be used.

    Args:
        kind: what is wrong, in the plural, of all that are wrong in that way.
        message: what must hold, what came, what to do.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Labelled:
    """A picture with its labels.

    Attributes:
        image: upright, RGB of 8 bits.
        labels: ``(height, width)``, 8-bit class numbers, `IGNORED` where there is none.
        notes: what to know of it, of `WIDE`, `COLOURED` and `TURNED`.
    """

    image: Image.Image
    labels: NDArray[np.uint8]
    notes: tuple[str, ...]


def read_pair(pair: Pair, source: Source) -> Labelled:
    """Read a picture and its label map.

    A map as large as the upright picture lies on that; one as large as the picture before its camera's
    orientation is turned with it.

    Raises:
        LabelError: the label map cannot be used.
        OSError, SyntaxError, ValueError, EOFError: one of `UNREADABLE`, one of the files is no whole picture.
    """
    image = read_image(pair.image)
    stored, notes = read_stored(pair.labels)
    if stored.shape != (image.height, image.width):
        stored = turned(pair, stored, (image.height, image.width))
        notes = (*notes, TURNED)
    return Labelled(image, as_classes(pair.labels, stored, source), notes)


def read_stored(path: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The numbers that a label map stores, ``(height, width)``, and what to know of it.

    Raises:
        LabelError: it stores colours, or was compressed with loss.
    """
    if path.suffix.lower() in LOSSY:
        raise LabelError(
            "label maps compressed with loss",
            f"a label map must be stored without loss, got {path}; save it as PNG from its source",
        )
    with Image.open(path) as image:
        image.load()
        mode = image.mode
        stored = np.asarray(image)
    if mode in ("L", "P", "1"):
        return stored.astype(np.uint8), ()
    if mode.startswith("I"):
        return stored, (WIDE,)
    if mode == "RGB" and (stored == stored[..., :1]).all():
        return stored[..., 0], (COLOURED,)
    raise LabelError(
        "label maps in colour",
        f"a label map must hold one number a pixel, got {path} in colours ({mode}); "
        "save class numbers as a grey or palette PNG",
    )


def turned(pair: Pair, stored: NDArray[Any], upright: tuple[int, int]) -> NDArray[Any]:
    """A label map turned as its picture was.

    Raises:
        LabelError: the picture has another size in either orientation.
    """
    with Image.open(pair.image) as image:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    if stored.shape == upright[::-1] and orientation in QUARTER_TURNS:
        kind = np.int32 if stored.itemsize > 1 else np.uint8
        return np.asarray(Image.fromarray(stored.astype(kind)).transpose(QUARTER_TURNS[orientation]))
    height, width = stored.shape
    raise LabelError(
        "label maps of another size than their picture",
        f"{pair.labels} must be {upright[1]} x {upright[0]} pixels, as {pair.image}, got {width} x {height}; "
        "save it at the picture's size",
    )


def as_classes(path: Path, stored: NDArray[Any], source: Source) -> NDArray[np.uint8]:
    """Class numbers of what a label map stores.

    Raises:
        LabelError: a number is of no class.
    """
    first = 1 if source.layout.unlabelled_zero else 0
    last = len(source.class_names) - 1 + first
    ignored = (stored == IGNORED) | (stored < first if first else False)
    foreign = np.unique(stored[~ignored & ((stored < first) | (stored > last))])
    if foreign.size:
        values = ", ".join(map(str, foreign[:5].tolist())) + (", ..." if foreign.size > 5 else "")
        raise LabelError(
            "label maps with values out of range",
            f"{path} must hold labels from {first} to {last}, or {IGNORED} for none, got {values}; "
            "correct it, or the list of classes",
        )
    return np.where(ignored, IGNORED, stored - first).astype(np.uint8)
