# SPDX-License-Identifier: Apache-2.0
"""Label maps: reading them as class numbers, aligned with their image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slideformer.errors import UserError
from slideformer.tasks.images import apply_orientation, read_stored
from slideformer.tasks.orientation import ambiguity, read_with_header
from slideformer.tasks.segment.layout import Pair, Source

# The label of no class, neither trained on nor counted.
IGNORED = 255
LOSSY = (".jpg", ".jpeg", ".webp")
# Notes on a pair, in the plural.
WIDE, COLOURED, ROTATED = (
    "label maps of 16 bits",
    "label maps stored in colour, all channels equal",
    "label maps rotated to upright with their image",
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
    """An image with its labels.

    Attributes:
        image: upright, RGB of 8 bits.
        labels: ``(height, width)``, 8-bit class numbers, `IGNORED` where there is none.
        notes: any of `WIDE`, `COLOURED`, `ROTATED` and `ambiguity`.
    """

    image: Image.Image
    labels: NDArray[np.uint8]
    notes: tuple[str, ...]


def read_pair(pair: Pair, source: Source) -> Labelled:
    """Read an image and its label map.

    A map of the size of the upright image belongs to that; one of the size of the stored image is rotated
    with it. Where both have that size, the source says on which of them the map was drawn.

    Raises:
        LabelError: the label map cannot be used.
        UnreadableImageError: one of the files cannot be read.
    """
    image, header = read_with_header(pair.image)
    image = apply_orientation(image, header.orientation)
    stored, notes = read_numbers(pair.labels)
    height, width = stored.shape
    drawn = header.drawn((width, height), source.drawn)
    if drawn is None:
        raise LabelError(
            "label maps of another size than their image",
            f"{pair.labels} must be {image.width} x {image.height} pixels, as {pair.image}, got {width} x "
            f"{height}; save it at the image's size",
        )
    if drawn == "stored" and header.orientation != 1:
        kind = np.int32 if stored.itemsize > 1 else np.uint8
        stored = np.asarray(apply_orientation(Image.fromarray(stored.astype(kind)), header.orientation))
        notes = notes if header.ambiguous else (*notes, ROTATED)
    if header.ambiguous:
        notes = (*notes, ambiguity(drawn))
    return Labelled(image, as_classes(pair.labels, stored, source), notes)


def read_numbers(path: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Read the numbers that a label map stores, ``(height, width)``, and notes on it."""
    if path.suffix.lower() in LOSSY:
        raise LabelError(
            "label maps compressed with loss",
            f"a label map must be stored without loss, got {path}; save it as PNG from its source",
        )
    image = read_stored(path)
    mode, stored = image.mode, np.asarray(image)
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


def as_classes(path: Path, stored: NDArray[Any], source: Source) -> NDArray[np.uint8]:
    """Convert the numbers that a label map stores to class numbers."""
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
