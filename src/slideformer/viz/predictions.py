# SPDX-License-Identifier: Apache-2.0
"""Classified images: the mistakes, and some of the right ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from slideformer.viz.figure import INK, RIGHT, WRONG
from slideformer.viz.sheet import Part, Tile, display, draw_sheet, pick_evenly

MISTAKES, RIGHT_ONES = 24, 16
COLUMNS, SIDE = 8, 128


def draw_predictions(
    images: Sequence[Any],
    labels: Sequence[int] | None,
    predictions: Sequence[int],
    confidences: Sequence[float],
    class_names: Sequence[str],
    *,
    subject: str = "images",
) -> Image.Image:
    """Draw the most confident mistakes, with the true classes, and some images that are classified right.

    Without labels, some images with their predicted classes are drawn.

    Args:
        images: all that were classified, PIL's or arrays ``(height, width, 3)`` of 8 bits.
        labels: true class numbers; None where nobody knows them.
        predictions: predicted class numbers.
        confidences: probability of each predicted class, from 0 to 1.
        class_names: in the order of the numbers.
        subject: what the images are, for the title.

    Raises:
        ValueError: lengths differ, or there is no image.
    """
    count = len(images)
    given = count if labels is None else len(labels)
    if not count == given == len(predictions) == len(confidences) or not count:
        raise ValueError(
            "there must be as many labels, predictions and confidences as images, and one at least, "
            f"got {given}, {len(predictions)}, {len(confidences)} and {count}"
        )

    def tile(number: int, *, truth: str = "", colour: str = RIGHT) -> Tile:
        image = images[number]
        shown = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
        # The share first: a long name is cut at its end.
        lines = [f"{100 * confidences[number]:.0f} %: {class_names[predictions[number]]}"]
        return Tile(display(shown, SIDE), (*lines, *([truth] if truth else [])), colour, framed=bool(truth))

    if labels is None:
        some = pick_evenly(count, MISTAKES + RIGHT_ONES)
        title = (
            f"predicted classes with their probabilities: {len(some)} of {count} {subject}, without labels"
        )
        return draw_sheet(title, [Part([tile(number, colour=INK) for number in some])], columns=COLUMNS)
    right = [n for n in range(count) if labels[n] == predictions[n]]
    wrong = sorted(set(range(count)) - set(right), key=lambda n: -confidences[n])
    parts = []
    if wrong:
        words = f"the {MISTAKES} most confident of {len(wrong)} mistakes"
        if len(wrong) <= MISTAKES:
            words = "all mistakes, the most confident first" if len(wrong) > 1 else "the only mistake"
        words += ": predicted class with its probability, and true class"
        truths = [(number, f"true: {class_names[labels[number]]}") for number in wrong[:MISTAKES]]
        parts.append(Part([tile(number, truth=truth, colour=WRONG) for number, truth in truths], words))
    if right:
        some = [right[place] for place in pick_evenly(len(right), RIGHT_ONES)]
        words = f"{len(some)} of the {len(right)} that are right, picked evenly"
        words = words if len(some) < len(right) else "all that are right"
        parts.append(Part([tile(number) for number in some], words))
    title = f"{100 * len(right) / count:.1f} % right: {len(right)} of {count} {subject}"
    return draw_sheet(title, parts, columns=COLUMNS)
