# SPDX-License-Identifier: Apache-2.0
"""Places for the labels of boxes, such that no label covers another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

# Left, top, right, bottom in pixels; the last two are outside.
Rectangle = tuple[int, int, int, int]


def place_labels(
    boxes: Sequence[Sequence[float]], sizes: Sequence[tuple[int, int]], canvas: tuple[int, int]
) -> list[Rectangle | None]:
    """Find a place for the label of each box, in order: at its edges, on the canvas, on no other label.

    Args:
        boxes: left, top, right, bottom of each; the most important first.
        sizes: width and height of each label.
        canvas: width and height of the image.

    Returns:
        The rectangle of each label; None where there is no room.
    """
    taken: list[Rectangle] = []
    places: list[Rectangle | None] = []
    for box, size in zip(boxes, sizes, strict=True):
        free = (
            place for place in spots(box, size, canvas) if not any(overlap(place, other) for other in taken)
        )
        place = next(free, None)
        places.append(place)
        taken += [] if place is None else [place]
    return places


def spots(box: Sequence[float], size: tuple[int, int], canvas: tuple[int, int]) -> Iterator[Rectangle]:
    """The places on the canvas where a label touches its box, the best first."""
    left, top, right, bottom = (round(place) for place in box)
    width, height = size
    for x, y in (
        *((left, top - height), (left, bottom)),  # above and below
        *((left, top), (left, bottom - height)),  # inside
        *((right - width, top - height), (right - width, bottom)),
        *((right - width, top), (right - width, bottom - height)),
        *((right, top), (left - width, top), (right, bottom - height), (left - width, bottom - height)),
    ):
        # A box at the border has its label moved along its edge, so that it stays on the canvas.
        moved = min(max(0, x), canvas[0] - width) if left - width < x < right else x
        if 0 <= moved <= canvas[0] - width and 0 <= y <= canvas[1] - height:
            yield moved, y, moved + width, y + height


def overlap(one: Rectangle, other: Rectangle) -> bool:
    """Whether two rectangles share a pixel."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
