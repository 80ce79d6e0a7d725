# SPDX-License-Identifier: Apache-2.0
"""A picture with what a detector found on it: boxes, masks, names and scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from slideformer.errors import printable
from slideformer.files import whole
from slideformer.viz.figure import INK

# Told apart by the colour-blind, too (after Okabe and Ito), and bright enough for dark words on them; classes
# beyond them begin anew.
CLASS_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#9db4ff")
MASK_OPACITY = 0.45
# A small picture is enlarged, so that the words on it can be read, but not a long and thin one without end.
SMALLEST_SIDE, LONGEST_SIDE = 480, 3840


def draw_detections(
    picture: Any,
    boxes: Any,
    labels: Sequence[int],
    scores: Sequence[float],
    class_names: Sequence[str],
    masks: Any = None,
) -> Image.Image:
    """The picture with everything found, the surest on top.

    Args:
        picture: PIL's, or an array ``(height, width, 3)`` of 8 bits.
        boxes: ``(N, 4)`` left, top, right, bottom in pixels.
        labels: numbers of the classes, from 1.
        scores: 0 to 1.
        class_names: that of label 1 first.
        masks: ``(N, height, width)``, what is not 0 belongs to the object; None for boxes alone.

    Raises:
        ValueError: lengths differ, or masks have another size than the picture.
    """
    base = picture if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture))
    pixels = np.asarray(base.convert("RGB"), dtype=np.float64)
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    if not len(corners) == len(labels) == len(scores):
        raise ValueError(
            "there must be as many labels and scores as boxes, "
            f"got {len(labels)}, {len(scores)} and {len(corners)}"
        )
    order = np.argsort(np.asarray(scores), kind="stable").tolist()
    if masks is not None:
        drawn = np.asarray(masks).astype(bool)
        if drawn.shape != (len(corners), *pixels.shape[:2]):
            raise ValueError(
                f"masks must be {len(corners)} of the picture's size {pixels.shape[:2]}, got {drawn.shape}"
            )
        for number in order:
            tint(pixels, drawn[number], colour_of(labels[number]))
    shape = pixels.shape[:2]
    scale = max(1.0, min(SMALLEST_SIDE / min(shape), LONGEST_SIDE / max(shape)))
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    image = Image.fromarray(pixels.round().astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(11, round(min(size) / 36)))
    for number in order:
        words = f"{printable(class_names[labels[number] - 1])} {100 * scores[number]:.0f} %"
        frame(pen, (corners[number] * scale).tolist(), colour_of(labels[number]), words, font, size)
    return image


def save_detections(image: Image.Image, out: str | Path) -> Path:
    """Write a drawn picture as PNG, whole or not at all."""
    with whole(out) as unfinished:
        image.save(unfinished, format="png")
    return Path(out)


def colour_of(label: int) -> str:
    """The colour of a class, the same on every picture."""
    return CLASS_COLOURS[(label - 1) % len(CLASS_COLOURS)]


def tint(pixels: NDArray[np.float64], mask: NDArray[np.bool_], colour: str) -> None:
    """Colour a mask, its outline stronger, in place."""
    paint = np.asarray(ImageColor.getrgb(colour), dtype=np.float64)
    padded = np.pad(mask, 1)
    inner = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    pixels[inner] += MASK_OPACITY * (paint - pixels[inner])
    pixels[mask & ~inner] = paint


def frame(
    pen: ImageDraw.ImageDraw,
    corners: Sequence[float],
    colour: str,
    words: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
) -> None:
    """Draw a box and, on its upper edge, what is in it, moved so that it stays on the picture."""
    left, top, right, bottom = corners
    pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=2)
    _, _, wide, high = pen.textbbox((0, 0), words, font=font)
    x = min(max(0.0, left), max(0.0, size[0] - wide - 8))
    y = top - high - 5 if top >= high + 5 else max(0.0, top)
    pen.rectangle((x, y, x + wide + 7, y + high + 4), fill=colour)
    pen.text((x + 4, y + 1), words, fill=INK, font=font)
