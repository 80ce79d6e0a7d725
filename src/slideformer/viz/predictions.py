# SPDX-License-Identifier: Apache-2.0
"""Classified images: the mistakes, and some of the right ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from slideformer.viz.figure import RIGHT, WRONG
from slideformer.viz.sheet import Part, Tile, display, draw_sheet, pick_evenly

MISTAKES, RIGHT_ONES = 24, 16
COLUMNS, SIDE = 8, 128


def draw_predictions(
    images: Sequence[Any],
    labels: Sequence[int],
    predictions: Sequence[int],
    confidences: Sequence[float],
    class_names: Sequence[str],
    *,
    subject: str = "images",
) -> Image.Image:
    """Draw the most confident mistakes, with the true classes, and some images that are classified right.

    Args:
        images: all that were classified, PIL's or arrays ``(height, width, 3)`` of 8 bits.
        labels: true class numbers.
        predictions: predicted class numbers.
        confidences: probability of each predicted class, from 0 to 1.
        class_names: in the order of the numbers.
        subject: what the images are, for the title.

    Raises:
        ValueError: lengths differ, or there is no image.
    """
    count = len(images)
    if not count == len(labels) == len(predictions) == len(confidences) or not count:
        raise ValueError(
            "there must be as many labels, predictions and confidences as images, and one at least, "
            f"got {len(labels)}, {len(predictions)}, {len(confidences)} and {count}"
        )
    right = [n for n in range(count) if labels[n] == predictions[n]]
    wrong = sorted(set(range(count)) - set(right), key=lambda n: -confidences[n])

    def tile(number: int) -> Tile:
        image = images[number]
        shown = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
        hit = labels[number] == predictions[number]
        # The share first: a long name is cut at its end.
        lines = [f"{100 * confidences[number]:.0f} %: {class_names[predictions[number]]}"]
        lines += [] if hit else [f"true: {class_names[labels[number]]}"]
        return Tile(display(shown, SIDE), tuple(lines), RIGHT if hit else WRONG, framed=not hit)

    parts = []
    if wrong:
        words = f"the {MISTAKES} most confident of {len(wrong)} mistakes"
        if len(wrong) <= MISTAKES:
            words = "all mistakes, the most confident first" if len(wrong) > 1 else "the only mistake"
        words += ": predicted class with its probability, and true class"
        parts.append(Part([tile(number) for number in wrong[:MISTAKES]], words))
    if right:
        some = [right[place] for place in pick_evenly(len(right), RIGHT_ONES)]
        words = f"{len(some)} of the {len(right)} that are right, picked evenly"
        words = words if len(some) < len(right) else "all that are right"
        parts.append(Part([tile(number) for number in some], words))
    title = f"{100 * len(right) / count:.1f} % right: {len(right)} of {count} {subject}"
    return draw_sheet(title, parts, columns=COLUMNS)
