# SPDX-License-Identifier: Apache-2.0
"""A legend to the right of an image, which it neither covers nor scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from slideformer.viz.figure import GRID, INK, SOFT
from slideformer.viz.text import font_of, line_height, shortened, text_size, wrapped

# Size of the smallest words in pixels, and width of a legend in sizes of its words.
LEAST, WIDEST = 13, 22
# Entries that a legend has room for.
ENTRIES = 24


@dataclass(frozen=True)
class Entry:
    """A line of a legend.

    Attributes:
        words: next to the swatch.
        colour: of the swatch.
        share: of the swatch's width that is coloured, from 0 to 1.
    """

    words: str
    colour: str
    share: float = 1.0


def draw_legend(title: str, entries: Sequence[Entry], size: int, *, swatch: float = 1.0) -> Image.Image:
    """Draw a legend.

    Args:
        title: above the entries; empty for none.
        entries: the most important first; more than there is room for are counted.
        size: of the words, in pixels.
        swatch: width of a swatch, in sizes of the words.
    """
    font, line, gap = font_of(size), line_height(size), round(0.6 * size)
    box = round(swatch * size)
    most = WIDEST * size
    heading = wrapped(title, font, most) if title else []
    rows = [(entry, shortened(entry.words, font, most - box - gap)) for entry in entries[:ENTRIES]]
    left_out = [f"and {len(entries) - len(rows)} more"] if len(entries) > len(rows) else []
    widths = [font.getlength(text) for text in (*heading, *left_out)]
    widths += [box + gap + font.getlength(text) for _, text in rows]
    lines = len(heading) + len(rows) + len(left_out)
    width = round(max(widths, default=0)) + 2 * gap
    legend = Image.new("RGB", (width, lines * line + 2 * gap), "white")
    pen, top = ImageDraw.Draw(legend), gap
    for text in heading:
        pen.text((gap, top), text, fill=INK, font=font)
        top += line
    for entry, text in rows:
        frame = (gap, top + line // 2 - size // 2, gap + box, top + line // 2 + size // 2)
        filled = (frame[0], frame[1], gap + round(entry.share * box), frame[3])
        pen.rectangle(filled, fill=entry.colour)
        pen.rectangle(frame, outline=INK if swatch == 1 else GRID)
        pen.text((gap + box + gap, top), text, fill=INK, font=font)
        top += line
    for text in left_out:
        pen.text((gap, top), text, fill=SOFT, font=font)
    return legend


def with_legend(
    image: Image.Image, title: str, entries: Sequence[Entry], *, swatch: float = 1.0
) -> Image.Image:
    """Put a legend to the right of an image, whose pixels stay as they are, at the upper left.

    Args:
        image: RGB, of any size; the words of the legend can be read at any.
        title: above the entries; empty for none.
        entries: the most important first.
        swatch: width of a swatch, in sizes of the words.
    """
    legend = draw_legend(title, entries, text_size(image.size, least=LEAST), swatch=swatch)
    canvas = Image.new("RGB", (image.width + legend.width, max(image.height, legend.height)), "white")
    canvas.paste(image)
    canvas.paste(legend, (image.width, 0))
    return canvas
