# SPDX-License-Identifier: Apache-2.0
"""Boxes, masks and names of objects on an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from slideformer.errors import printable
from slideformer.viz.figure import INK
from slideformer.viz.legend import Entry, with_legend
from slideformer.viz.placement import place_labels
from slideformer.viz.text import font_of, line_height, text_size

# Distinct for the colour-blind too (after Okabe and Ito), and bright enough for dark words on them; repeated
# for further classes.
CLASS_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#9db4ff")
MASK_OPACITY = 0.45
# Size of the smallest words on an image, in pixels.
LEAST = 11
# Parts of the image that a label, and all of them, may cover; further ones are left out.
LARGEST_LABEL, ALL_LABELS = 1 / 16, 1 / 5


def draw_detections(
    image: Any,
    boxes: Any,
    labels: Sequence[int],
    scores: Sequence[float],
    class_names: Sequence[str],
    masks: Any = None,
    *,
    max_drawn: int | None = None,
) -> Image.Image:
    """Draw detections on an image, the highest score on top, and a legend to the right of it.

    The image keeps its size, at the upper left. No label covers another: one that has no room is left out.

    Args:
        image: of Pillow, or an array ``(height, width, 3)`` of 8 bits.
        boxes: ``(N, 4)`` left, top, right, bottom in pixels.
        labels: numbers of the classes, from 1.
        scores: 0 to 1.
        class_names: that of label 1 first.
        masks: ``(N, height, width)``, nonzero where the object is; None for boxes alone.
        max_drawn: how many objects are drawn, those with the highest scores; None for all.

    Raises:
        ValueError: lengths differ, or masks have another size than the image.
    """
    base = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    if not len(corners) == len(labels) == len(scores):
        raise ValueError(
            "there must be as many labels and scores as boxes, "
            f"got {len(labels)}, {len(scores)} and {len(corners)}"
        )
    check_masks(masks, len(corners), base)
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")[:max_drawn].tolist()
    canvas = paint_objects(
        base,
        corners[order],
        [labels[number] for number in order],
        [f"{class_names[labels[number] - 1]} {100 * scores[number]:.0f} %" for number in order],
        None if masks is None else [masks[number] for number in order],
    )
    count = f"{len(order)} object{'' if len(order) == 1 else 's'}" if order else "nothing found"
    if len(order) < len(corners):
        count = f"{len(order)} of {len(corners)} objects, those with the highest scores"
    found: dict[int, list[float]] = {}
    for number in order:
        found.setdefault(labels[number], []).append(100 * scores[number])
    entries = [
        Entry(f"{len(row)} {printable(class_names[label - 1])}, {score_range(row)}", colour_of(label))
        for label, row in found.items()
    ]
    return with_legend(canvas, count, entries)


def check_masks(masks: Any, count: int, image: Image.Image) -> None:
    """Check that there is a mask of the image's size for each object, or no masks at all."""
    size = (image.height, image.width)
    if masks is not None and np.shape(masks) != (count, *size):
        raise ValueError(f"masks must be {count} of the image's size {size}, got {np.shape(masks)}")


def score_range(percents: Sequence[float]) -> str:
    """The lowest and the highest score of some objects, in percent."""
    low, high = (f"{bound(percents):.0f}" for bound in (min, max))
    return f"{high} %" if low == high else f"{low} to {high} %"


def paint_objects(
    image: Image.Image,
    boxes: Any,
    labels: Sequence[int],
    words: Sequence[str],
    masks: Sequence[Any] | None = None,
    *,
    scale: float = 1.0,
) -> Image.Image:
    """Draw boxes, masks and words on a copy of an image, the first object on top.

    Args:
        image: to draw on.
        boxes: ``(N, 4)`` left, top, right, bottom in pixels of the image.
        labels: numbers of the classes, from 1.
        words: at each box, where there is room.
        masks: ``(height, width)`` of each object; None for boxes alone.
        scale: by which the image is resized before boxes and words are drawn.
    """
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    numbers = range(len(labels))
    if masks is not None:
        for number in reversed(numbers):
            tint(pixels, np.asarray(masks[number]).astype(bool), colour_of(labels[number]))
    canvas = Image.fromarray(pixels.round().astype(np.uint8))
    if scale != 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        canvas = canvas.resize(size, Image.Resampling.BICUBIC)
    corners = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * scale).tolist()
    pen = ImageDraw.Draw(canvas)
    thick = max(1, round(min(canvas.size) / 200))
    for number in reversed(numbers):
        left, top, right, bottom = corners[number]
        edges = (left, top, max(left, right - 1), max(top, bottom - 1))
        pen.rectangle(edges, outline=colour_of(labels[number]), width=thick)
    write_labels(pen, corners, labels, [printable(text) for text in words], canvas.size)
    return canvas


def write_labels(
    pen: ImageDraw.ImageDraw,
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
    words: Sequence[str],
    canvas: tuple[int, int],
) -> None:
    """Write the words of each box in the colour of its class, those of the first box at its best place."""
    size = text_size(canvas, least=LEAST)
    font, high = font_of(size), line_height(size) + 1
    sizes = [(round(font.getlength(text)) + 7, high) for text in words]
    areas = [width * height / (canvas[0] * canvas[1]) for width, height in sizes]
    shown, covered = [], 0.0
    for number, area in enumerate(areas):
        if area <= LARGEST_LABEL and covered + area <= ALL_LABELS:
            shown.append(number)
            covered += area
    places = place_labels([boxes[number] for number in shown], [sizes[number] for number in shown], canvas)
    for number, place in zip(shown, places, strict=True):
        if place is not None:
            left, top, right, bottom = place
            pen.rectangle((left, top, right - 1, bottom - 1), fill=colour_of(labels[number]))
            pen.text((left + 4, top + 1), words[number], fill=INK, font=font)


def colour_of(label: int) -> str:
    """The colour of a class, the same on every image."""
    return CLASS_COLOURS[(label - 1) % len(CLASS_COLOURS)]


def tint(pixels: NDArray[np.float64], mask: NDArray[np.bool_], colour: str) -> None:
    """Colour a mask, its outline stronger, in place."""
    paint = np.asarray(ImageColor.getrgb(colour), dtype=np.float64)
    padded = np.pad(mask, 1)
    inner = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    pixels[inner] += MASK_OPACITY * (paint - pixels[inner])
    pixels[mask & ~inner] = paint
