# SPDX-License-Identifier: Apache-2.0
"""Images with results drawn on them: classes, boxes and masks, the class of every pixel."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from slideformer.errors import printable
from slideformer.viz.figure import ACCENT, INK, drawable, new_figure, rendered

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Distinct for the colour-blind too (after Okabe and Ito), and bright enough for dark words on them; repeated
# for further classes.
CLASS_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#9db4ff")
MASK_OPACITY = 0.45
# A small image is enlarged, so that the words on it can be read; the limit is for long and thin ones.
SMALLEST_SIDE, LONGEST_SIDE = 480, 3840


def draw_detections(
    image: Any,
    boxes: Any,
    labels: Sequence[int],
    scores: Sequence[float],
    class_names: Sequence[str],
    masks: Any = None,
) -> Image.Image:
    """Draw detections on an image, the highest score on top.

    Args:
        image: of Pillow, or an array ``(height, width, 3)`` of 8 bits.
        boxes: ``(N, 4)`` left, top, right, bottom in pixels.
        labels: numbers of the classes, from 1.
        scores: 0 to 1.
        class_names: that of label 1 first.
        masks: ``(N, height, width)``, nonzero where the object is; None for boxes alone.

    Raises:
        ValueError: lengths differ, or masks have another size than the image.
    """
    base = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
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
                f"masks must be {len(corners)} of the image's size {pixels.shape[:2]}, got {drawn.shape}"
            )
        for number in order:
            tint(pixels, drawn[number], colour_of(labels[number]))
    shape = pixels.shape[:2]
    scale = max(1.0, min(SMALLEST_SIDE / min(shape), LONGEST_SIDE / max(shape)))
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    canvas = Image.fromarray(pixels.round().astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(canvas)
    font = font_for(size)
    for number in order:
        words = f"{printable(class_names[labels[number] - 1])} {100 * scores[number]:.0f} %"
        frame(pen, (corners[number] * scale).tolist(), colour_of(labels[number]), words, font, size)
    return canvas


def font_for(size: tuple[int, int]) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font that can be read on an image of this width and height."""
    return ImageFont.load_default(size=max(11, round(min(size) / 36)))


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


def frame(
    pen: ImageDraw.ImageDraw,
    corners: Sequence[float],
    colour: str,
    words: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
) -> None:
    """Draw a box and, on its upper edge, what is in it, moved so that it stays on the image."""
    left, top, right, bottom = corners
    pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=2)
    _, _, wide, high = pen.textbbox((0, 0), words, font=font)
    x = min(max(0.0, left), max(0.0, size[0] - wide - 8))
    y = top - high - 5 if top >= high + 5 else max(0.0, top)
    pen.rectangle((x, y, x + wide + 7, y + high + 4), fill=colour)
    pen.text((x + 4, y + 1), words, fill=INK, font=font)


MARGIN = 8


def draw_classes(image: Image.Image, classes: Sequence[tuple[str, float]]) -> Image.Image:
    """Draw an image above the names and probabilities of its classes, the likeliest first.

    Args:
        image: RGB.
        classes: name and probability, from 0 to 1, of each.
    """
    scale = max(1.0, min(SMALLEST_SIDE / min(image.size), LONGEST_SIDE / max(image.size)))
    width, height = (max(1, round(side * scale)) for side in image.size)
    font = font_for((width, height))
    line = round(1.6 * getattr(font, "size", 11))
    canvas = Image.new("RGB", (width, height + line * len(classes) + 2 * MARGIN), "white")
    canvas.paste(image.resize((width, height), Image.Resampling.BICUBIC))
    pen = ImageDraw.Draw(canvas)
    for number, (name, share) in enumerate(classes):
        top = height + MARGIN + number * line
        pen.rectangle((0, top, round(share * (width - 1)), top + line - 4), fill="#cfe0f2")
        words = f"{printable(name)}  {100 * share:.1f} %"
        pen.text((MARGIN, top), words, fill=ACCENT if number == 0 else INK, font=font)
    return canvas


# Each hue is a golden section of the colour circle away from the one before, far from all others.
GOLDEN = 0.618034
FIRST_HUE = 0.08
# Names that a legend has room for.
NAMES = 24
# Share of the colour; the rest is the image's.
OPACITY = 0.55


def class_colours(classes: int, background: bool = False) -> list[tuple[int, int, int]]:
    """Distinct colours: red, green and blue of each class, from 0 to 255.

    Args:
        classes: how many.
        background: whether the first class is black.
    """
    colours = []
    for number in range(classes - background):
        hue = (FIRST_HUE + GOLDEN * number) % 1
        # Further rounds are darker, then paler.
        value, saturation = ((0.95, 0.85), (0.65, 0.9), (0.9, 0.5))[number // 9 % 3]
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return [(0, 0, 0), *colours] if background else colours


def overlay(image: Any, labels: Any, colours: Sequence[Sequence[int]], opacity: float = OPACITY) -> Any:
    """Blend classes over an image; a class whose colour is black leaves the image unchanged.

    Args:
        image: ``(height, width, 3)``, 8-bit.
        labels: ``(height, width)``, class numbers.
        colours: of each class.
        opacity: share of the colour, of 1.

    Raises:
        ValueError: the sizes differ, or a class has no colour.
    """
    pixels, classes = np.asarray(image), np.asarray(labels)
    if pixels.shape[:2] != classes.shape:
        raise ValueError(f"labels must be as large as the image, {pixels.shape[:2]}, got {classes.shape}")
    if classes.size and int(classes.max()) >= len(colours):
        raise ValueError(f"every class must have a colour, got {len(colours)} for class {int(classes.max())}")
    palette = np.asarray(colours, dtype=np.float32)
    seen = (palette.max(1) > 0).astype(np.float32) * np.float32(opacity)
    # At the edge of a class the colour is opaque: the image may have that very colour there.
    shown = np.where(edges(classes), seen[classes] > 0, seen[classes])[..., None]
    return (pixels * (1 - shown) + palette[classes] * shown).round().astype(np.uint8)


def edges(classes: Any) -> Any:
    """Whether the pixel to the right or below has another class: ``(height, width)``."""
    found = np.zeros(classes.shape, dtype=bool)
    found[:-1] |= classes[:-1] != classes[1:]
    found[:, :-1] |= classes[:, :-1] != classes[:, 1:]
    return found


def segmentation_figure(
    image: Any, labels: Any, class_names: Sequence[str], colours: Sequence[Sequence[int]]
) -> Figure:
    """The figure of `draw_segmentation`."""
    from matplotlib.patches import Patch

    blended = overlay(image, labels, colours)
    height, width = blended.shape[:2]
    present, counts = np.unique(np.asarray(labels), return_counts=True)
    order = present[np.argsort(-counts, kind="stable")]
    side = 5.0
    figure = new_figure(side * width / max(height, width) + 2.0, max(2.0, side * height / max(height, width)))
    axes = figure.add_subplot()
    axes.imshow(blended, interpolation="nearest")
    axes.set_axis_off()
    total = np.asarray(labels).size
    shares = dict(zip(present.tolist(), (100 * counts / total).tolist(), strict=True))
    patches = [
        Patch(
            facecolor="#{:02x}{:02x}{:02x}".format(*colours[n]) if any(colours[n]) else "white",
            edgecolor=INK,
            linewidth=0.5,
            label=f"{drawable(class_names[n])}  {shares[n]:.1f} %",
        )
        for n in order[:NAMES].tolist()
    ]
    more = len(order) - len(patches)
    figure.legend(
        handles=patches,
        loc="outside right upper",
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        title=f"and {more} more" if more > 0 else None,
    )
    return figure


def draw_segmentation(
    image: Any,
    labels: Any,
    class_names: Sequence[str],
    colours: Sequence[Sequence[int]] | None = None,
) -> Image.Image:
    """Draw an image with its classes in colour, next to a legend of the classes that occur.

    Args:
        image: ``(height, width, 3)``, 8-bit RGB, of Pillow or an array.
        labels: ``(height, width)``, class numbers.
        class_names: in the order of the numbers.
        colours: red, green and blue of each class; default: `class_colours`.

    Raises:
        ValueError: the sizes differ, or a class has no name or colour.
    """
    chosen = class_colours(len(class_names)) if colours is None else colours
    return rendered(segmentation_figure(image, labels, class_names, chosen))
