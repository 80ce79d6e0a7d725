# SPDX-License-Identifier: Apache-2.0
"""One image: objects before a photograph, each with the exact mask of what is seen of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slideformer.tasks.scenes.objects import Thing, draw_thing
from slideformer.tasks.scenes.photographs import background

MOST_OBJECTS = 6
# An object of which less is seen, by the share of its area or by pixels, is left out.
LEAST_SEEN, LEAST_PIXELS = 0.5, 16


@dataclass(frozen=True)
class Scene:
    """An image and what is on it.

    Attributes:
        pixels: ``(height, width, 3)``, RGB of 8 bits.
        labels: number of each object's class, from 1, back to front.
        masks: ``(objects, height, width)``, the pixels that show each object more than half; no two overlap.
    """

    pixels: NDArray[np.uint8]
    labels: tuple[int, ...]
    masks: NDArray[np.bool_]

    def label_map(self) -> NDArray[np.uint8]:
        """Class of each pixel ``(height, width)``, 0 for the background."""
        return np.tensordot(np.asarray(self.labels, dtype=np.uint8), self.masks, axes=1).astype(np.uint8)


def draw_scene(photographs: Sequence[Image.Image], size: int, random: np.random.Generator) -> Scene:
    """A random scene of ``size`` x ``size`` pixels with one object at least."""
    pixels = background(photographs[int(random.integers(len(photographs)))], size, random)
    light = random.uniform(0, 2 * np.pi)
    wanted = int(random.integers(1, MOST_OBJECTS + 1))
    things: list[Thing] = []
    while not things:
        things = fairly_seen([draw_thing(size, light, random) for _ in range(wanted)])
    for thing in things:
        pixels = pixels * (1 - thing.shadow[..., None])
        pixels += thing.coverage[..., None] * (thing.colours - pixels)
    return Scene(
        pixels=(pixels * 255).round().clip(0, 255).astype(np.uint8),
        labels=tuple(thing.label for thing in things),
        masks=seen(things) > 0.5,
    )


def seen(things: Sequence[Thing]) -> NDArray[np.float64]:
    """The share of each pixel that shows each object ``(objects, height, width)``, back to front."""
    uncovered = np.ones_like(things[0].coverage)
    shares = np.empty((len(things), *uncovered.shape))
    for number in reversed(range(len(things))):
        shares[number] = uncovered * things[number].coverage
        uncovered = uncovered * (1 - things[number].coverage)
    return shares


def fairly_seen(things: list[Thing]) -> list[Thing]:
    """The objects without those that others or the border hide, before any is drawn.

    The most hidden one goes first, since what it hid is seen then.
    """
    while things:
        pixels = seen(things)
        shares = pixels.sum((1, 2)) / [thing.area for thing in things]
        shares[(pixels > 0.5).sum((1, 2)) < LEAST_PIXELS] = 0
        most_hidden = int(shares.argmin())
        if shares[most_hidden] >= LEAST_SEEN:
            break
        things = things[:most_hidden] + things[most_hidden + 1 :]
    return things
