# SPDX-License-Identifier: Apache-2.0
"""Masks in COCO's run lengths: from every form that an annotation may have, and to and from pixels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slideformer.errors import UserError

# A polygon of fewer corners has no inside; a corner is two numbers.
LEAST_NUMBERS = 6
# Pixels from the corner of an image that a polygon may reach: the library walks every one of them.
FARTHEST = 1e6
# Largest integer that float64 represents exactly.
LARGEST = 2**53


class RunLengths(NamedTuple):
    """A compressed mask.

    Attributes:
        height: of the image, in pixels.
        width: of the image, in pixels.
        counts: COCO's compressed run lengths.
    """

    height: int
    width: int
    counts: bytes

    def to_coco(self) -> dict[str, Any]:
        """Convert to the form of COCO's JSON."""
        return {"size": [self.height, self.width], "counts": self.counts.decode("ascii")}


def coco_mask() -> Any:
    """Import the library's functions on masks."""
    try:
        from faster_coco_eval.core import mask
    except ImportError as error:
        raise UserError(
            "COCO's masks need faster-coco-eval, which is not installed; pip install 'slideformer[detect]'"
        ) from error
    return mask


def encode(mask: NDArray[Any]) -> RunLengths:
    """Compress a mask ``(height, width)`` of 0 and 1."""
    height, width = mask.shape
    if not mask.size:
        return RunLengths(height, width, b"")
    counts = coco_mask().encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return RunLengths(height, width, counts)


def decode(mask: RunLengths) -> NDArray[np.uint8]:
    """Decompress a mask to pixels ``(height, width)``, 0 and 1."""
    if not mask.counts:
        return np.zeros((mask.height, mask.width), dtype=np.uint8)
    rle = {"size": [mask.height, mask.width], "counts": mask.counts}
    return np.asarray(coco_mask().decode(rle), dtype=np.uint8)


def area(mask: RunLengths) -> int:
    """Number of pixels of a mask."""
    if not mask.counts:
        return 0
    return int(coco_mask().area({"size": [mask.height, mask.width], "counts": mask.counts}))


def from_annotation(segmentation: Any, height: int, width: int) -> RunLengths | None:
    """Compress the mask of an annotation, exactly as pycocotools draws it.

    Args:
        segmentation: polygons, or run lengths as a list or as a compressed text; None for no mask.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Returns:
        The mask; None where it has no pixel.

    Raises:
        ValueError: it is something else; the message says what must hold and what came.
    """
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, dict):
        counts = compressed(segmentation, height, width)
    elif isinstance(segmentation, list):
        counts = drawn(segmentation, height, width)
    else:
        raise ValueError(f"must be polygons or run lengths, got {type(segmentation).__name__}")
    mask = RunLengths(height, width, counts)
    return mask if counts and area(mask) else None


def compressed(segmentation: dict[str, Any], height: int, width: int) -> bytes:
    """Compress run lengths of either kind.

    Raises:
        ValueError: they are not those of an image of this size.
    """
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise ValueError(f"must have the image's size [{height}, {width}], got {size}")
    if isinstance(counts, str):
        lengths = run_lengths(counts.encode("utf-8"))
    elif isinstance(counts, list) and all(type(length) is int for length in counts):
        lengths = counts
    else:
        raise ValueError("must have counts, a text or a list of integers")
    if any(length < 0 for length in lengths) or sum(lengths) != height * width:
        raise ValueError(f"must count {height * width} pixels, got {sum(lengths)}")
    if isinstance(counts, str):
        return counts.encode("ascii")
    rle = {"size": [height, width], "counts": lengths}
    return bytes(coco_mask().frPyObjects(rle, height, width)["counts"])


def drawn(polygons: list[Any], height: int, width: int) -> bytes:
    """Compress polygons; those of fewer than three corners cover nothing.

    Raises:
        ValueError: they are not lists of numbers in pairs.
    """
    for polygon in polygons:
        if not isinstance(polygon, list) or not all(is_number(place) for place in polygon):
            raise ValueError("must be polygons, each a list of finite numbers")
        if len(polygon) % 2:
            raise ValueError(f"must have polygons of x and y in turn, got {len(polygon)} numbers")
        far = max(map(abs, polygon), default=0)
        if far > FARTHEST:
            raise ValueError(f"must have polygons within {FARTHEST:g} pixels of the image, got {far:g}")
    whole = [polygon for polygon in polygons if len(polygon) >= LEAST_NUMBERS]
    if not whole:
        return b""
    mask = coco_mask()
    parts = mask.frPyObjects(whole, height, width)
    return bytes((mask.merge(parts) if len(parts) > 1 else parts[0])["counts"])


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number that float64 can compute with."""
    return type(value) in (int, float) and abs(value) < LARGEST


def run_lengths(counts: bytes) -> list[int]:
    """Decode compressed run lengths; the library would read past the end of broken ones.

    Each length is written in groups of five bits, the lowest first, each as a character from ``0`` on
    whose sixth bit says that more follow; from the fourth length on as a difference to the one two before.

    Raises:
        ValueError: they end within a length, or hold a character that is not one of theirs.
    """
    lengths: list[int] = []
    value, shift = 0, 0
    for character in counts:
        group = character - 48
        if not 0 <= group < 64:
            raise ValueError(f"must have counts that stand for run lengths, got {chr(character)!r} in them")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            if group & 16:  # the highest bit is the sign
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise ValueError("must have complete counts, got ones that end within a length")
    return lengths
