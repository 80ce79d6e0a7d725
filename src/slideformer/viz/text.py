# SPDX-License-Identifier: Apache-2.0
"""Words on drawn images: fonts, and lines that fit a width."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageFont

from slideformer.errors import printable

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
MORE = "..."


@lru_cache(maxsize=32)
def font_of(size: int) -> Font:
    """Pillow's own font at a size in pixels."""
    return ImageFont.load_default(size=size)


def text_size(image_size: tuple[int, int], *, least: int) -> int:
    """The size of words that go with an image of this width and height, in pixels."""
    return max(least, round(min(image_size) / 36))


def line_height(size: int) -> int:
    """The height of a line of text, in pixels, for a size of the font."""
    return round(1.4 * size)


def shortened(text: str, font: Font, width: float) -> str:
    """The text in one harmless line, cut where it is wider than ``width`` pixels."""
    text = printable(text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + MORE) > width:
        text = text[:-1]
    return text + MORE


def wrapped(text: str, font: Font, width: float) -> list[str]:
    """The lines of a text that is broken between words where it is wider than ``width`` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [shortened(line, font, width) for line in lines]
