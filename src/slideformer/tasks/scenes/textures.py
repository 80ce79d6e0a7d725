# SPDX-License-Identifier: Apache-2.0
"""The texture of an object: two colours in a pattern, independent of the class."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slideformer.tasks.scenes.shapes import Map


def plain(x: Map, y: Map, random: np.random.Generator) -> Map:
    """One colour that turns slowly into the other."""
    return (x * random.uniform(-0.3, 0.3) + y * random.uniform(-0.3, 0.3) + 0.3).clip(0, 1)


def stripes(x: Map, y: Map, random: np.random.Generator) -> Map:
    """Parallel bands."""
    return soft(np.sin(random.uniform(5, 9) * x + random.uniform(0, 6)))


def checks(x: Map, y: Map, random: np.random.Generator) -> Map:
    """A chessboard."""
    pitch = random.uniform(4, 6)
    return soft(2 * np.sin(pitch * x + 1) * np.sin(pitch * y + 1))


def dots(x: Map, y: Map, random: np.random.Generator) -> Map:
    """Spots in rows and columns."""
    pitch = random.uniform(5, 8)
    return soft(np.cos(pitch * x) + np.cos(pitch * y) - 0.5)


def waves(x: Map, y: Map, random: np.random.Generator) -> Map:
    """Bands that bend, as in wood or marble."""
    bend = np.sin(random.uniform(2, 4) * y + random.uniform(0, 6)) + np.sin(random.uniform(3, 5) * (x + y))
    return 0.5 + 0.5 * np.sin(random.uniform(4, 7) * x + 1.3 * bend)


TEXTURES: tuple[Callable[[Map, Map, np.random.Generator], Map], ...] = (plain, stripes, checks, dots, waves)


def soft(wave: Map) -> Map:
    """A wave around 0 as 0 and 1, without a jagged edge between them."""
    return (0.5 + 2 * wave).clip(0, 1)


def texture(x: Map, y: Map, random: np.random.Generator) -> NDArray[np.float64]:
    """Colours ``(height, width, 3)``, 0 to 1, of a random pattern in two random colours.

    Args:
        x: the object's own coordinates, of which 1 is its radius.
        y: the other one, of the same shape.
        random: where chance comes from.
    """
    hue = random.uniform()
    bright = colorsys.hsv_to_rgb(hue, random.uniform(0.35, 0.9), random.uniform(0.8, 1.0))
    other_hue = (hue + random.uniform(-0.15, 0.15)) % 1
    dark = colorsys.hsv_to_rgb(other_hue, random.uniform(0.5, 0.95), random.uniform(0.35, 0.6))
    pattern = TEXTURES[random.integers(len(TEXTURES))](x, y, random)[..., None]
    return np.asarray(bright) * (1 - pattern) + np.asarray(dark) * pattern
