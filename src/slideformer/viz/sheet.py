# SPDX-License-Identifier: Apache-2.0
"""Many images on one sheet: parts with titles, a caption below each image, one legend for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from slideformer.viz.figure import INK
from slideformer.viz.legend import Entry, draw_legend
from slideformer.viz.text import font_of, line_height, shortened, wrapped

# Sizes of words, gaps and the frame of an image, in pixels; a title needs some width, too.
TITLE, HEADING, CAPTION = 19, 16, 13
GAP, FRAME, NARROWEST = 12, 4, 560


@dataclass(frozen=True)
class Tile:
    """An image of a sheet.

    Attributes:
        image: as large as it is drawn.
        lines: of its caption.
        colour: of the caption and the frame.
        framed: whether there is a frame around the image.
    """

    image: Image.Image
    lines: tuple[str, ...] = ()
    colour: str = INK
    framed: bool = False


@dataclass(frozen=True)
class Part:
    """Images that belong together.

    Attributes:
        tiles: row by row.
        title: above them; empty for none.
    """

    tiles: Sequence[Tile]
    title: str = ""


def pick_evenly(total: int, most: int) -> list[int]:
    """Numbers from 0 to below ``total``, all of them or ``most``, at equal distances."""
    return [place * total // most for place in range(most)] if total > most else list(range(total))


def display_scale(size: tuple[int, int], side: int) -> float:
    """The factor that makes an image of this width and height fill a square; a multiple of 1 from 2 on.

    Args:
        size: width and height, in pixels.
        side: of the square.
    """
    scale = side / max(size)
    return float(int(scale)) if scale >= 2 else scale


def display(image: Image.Image, side: int) -> Image.Image:
    """An image resized to fit a square; a small one shows its pixels."""
    scale = display_scale(image.size, side)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    how = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
    return image.convert("RGB").resize(size, how)


def draw_sheet(
    title: str,
    parts: Sequence[Part],
    *,
    columns: int,
    legend: Sequence[Entry] = (),
) -> Image.Image:
    """Draw images in rows.

    Args:
        title: above all.
        parts: from above to below; each with an image at least.
        columns: images in a row, at most.
        legend: what the colours mean, to the right.
    """
    tiles = [tile for part in parts for tile in part.tiles]
    cell = max(tile.image.width for tile in tiles)
    most = max(min(columns, len(part.tiles)) for part in parts)
    width = max(NARROWEST, GAP + most * (cell + GAP))
    key = draw_legend("", legend, CAPTION + 1) if legend else Image.new("RGB", (0, 0))
    strips = [written(title, TITLE, width)]
    for part in parts:
        strips += [written(part.title, HEADING, width)] if part.title else []
        strips += [
            row_of(part.tiles[first : first + most], cell, width) for first in range(0, len(part.tiles), most)
        ]
    height = max(sum(strip.height for strip in strips) + GAP, strips[0].height + key.height)
    sheet = Image.new("RGB", (width + key.width, height), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    sheet.paste(key, (width, strips[0].height))
    return sheet


def written(text: str, size: int, width: int) -> Image.Image:
    """A strip with a text, in as many lines as it takes."""
    font, line = font_of(size), line_height(size)
    lines = wrapped(text, font, width - 2 * GAP)
    strip = Image.new("RGB", (width, len(lines) * line + GAP), "white")
    pen = ImageDraw.Draw(strip)
    for number, words in enumerate(lines):
        pen.text((GAP, GAP // 2 + number * line), words, fill=INK, font=font)
    return strip


def row_of(tiles: Sequence[Tile], cell: int, width: int) -> Image.Image:
    """A strip with a row of images and, below each, its caption."""
    font, line = font_of(CAPTION), line_height(CAPTION)
    high, lines = max(tile.image.height for tile in tiles), max(len(tile.lines) for tile in tiles)
    strip = Image.new("RGB", (width, high + 2 * FRAME + lines * line + GAP // 2), "white")
    pen = ImageDraw.Draw(strip)
    for number, tile in enumerate(tiles):
        left = GAP + number * (cell + GAP)
        x = left + (cell - tile.image.width) // 2
        if tile.framed:
            frame = (
                x - FRAME,
                0,
                x + tile.image.width + FRAME - 1,
                tile.image.height + 2 * FRAME - 1,
            )
            pen.rectangle(frame, fill=tile.colour)
        strip.paste(tile.image, (x, FRAME))
        for place, words in enumerate(tile.lines):
            at = (left, tile.image.height + 2 * FRAME + place * line)
            pen.text(at, shortened(words, font, cell), fill=tile.colour, font=font)
    return strip
