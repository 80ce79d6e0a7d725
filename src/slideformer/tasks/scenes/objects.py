# SPDX-License-Identifier: Apache-2.0
"""One object: where it covers the image, and in which colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from slideformer.tasks.scenes.shapes import CLASS_NAMES, SHAPES
from slideformer.tasks.scenes.textures import texture

# Radius around an object, in shares of the image's side, from and to.
RADIUS = (0.09, 0.26)
# How wide the rounded edge that catches the light is, in radii.
BEVEL = 0.3
# Half the side of the window that an object and its shadow need, in radii.
REACH = 1.6
SHADOW_DEPTH, SHADOW_SHIFT, SHADOW_BLUR = 0.45, 0.18, 0.12


@dataclass(frozen=True)
class Thing:
    """One object, drawn on the whole image.

    Attributes:
        label: number of its class, from 1.
        coverage: ``(height, width)``, the share of each pixel that it covers.
        colours: ``(height, width, 3)``, 0 to 1, meaningful where it covers.
        shadow: ``(height, width)``, how much darker it makes what is behind it.
        area: what it would cover without the image's border, in pixels.
    """

    label: int
    coverage: NDArray[np.float64]
    colours: NDArray[np.float64]
    shadow: NDArray[np.float64]
    area: float


def draw_thing(size: int, light: float, random: np.random.Generator) -> Thing:
    """A random object on an image of ``size`` x ``size`` pixels.

    Args:
        size: side of the image.
        light: direction from which the light comes, in radians, the same for all objects of an image.
        random: where chance comes from.
    """
    label = int(random.integers(len(CLASS_NAMES))) + 1
    low, high = np.log(RADIUS)
    radius = size * float(np.exp(random.uniform(low, high)))
    across, down = random.uniform(0, size, 2)
    angle = random.uniform(0, 2 * np.pi)

    # Drawn alone on a window that holds it and its shadow, then laid on the image.
    half = int(np.ceil(radius * REACH))
    left, top = int(across) - half, int(down) - half
    place = np.arange(2 * half) + 0.5
    right, below = np.meshgrid((place + left - across) / radius, (place + top - down) / radius)
    x = np.cos(angle) * right + np.sin(angle) * below
    y = np.cos(angle) * below - np.sin(angle) * right
    distance = SHAPES[CLASS_NAMES[label - 1]](x, y)
    coverage = (0.5 - distance * radius).clip(0, 1)
    colours = texture(x, y, random) * shading(distance, right, below, light)[..., None]
    return Thing(
        label=label,
        coverage=lay(coverage, size, left, top),
        colours=lay(colours.clip(0, 1), size, left, top),
        shadow=lay(cast_shadow(coverage, radius, light), size, left, top),
        area=float(coverage.sum()),
    )


def lay(window: NDArray[np.float64], size: int, left: int, top: int) -> NDArray[np.float64]:
    """A window on an empty image of ``size`` x ``size``, cut by its border."""
    image = np.zeros((size, size, *window.shape[2:]))
    rows, columns = (slice(max(0, start), max(0, start + len(window))) for start in (top, left))
    cut = image[rows, columns]
    first_row, first_column = rows.start - top, columns.start - left
    cut[...] = window[first_row : first_row + cut.shape[0], first_column : first_column + cut.shape[1]]
    return image


def shading(
    distance: NDArray[np.float64], right: NDArray[np.float64], below: NDArray[np.float64], light: float
) -> NDArray[np.float64]:
    """Brightness of a flat object with a rounded edge: lit on the side of the light, dark on the other."""
    slope_down, slope_right = np.gradient(distance, below[:, 0], right[0])
    towards = slope_right * np.cos(light) + slope_down * np.sin(light)
    edge = (1 + distance / BEVEL).clip(0, 1)  # 0 on the flat part, 1 at the outline
    flat = 1 + 0.12 * (right * np.cos(light) + below * np.sin(light))
    return flat + 0.45 * edge**2 * towards


def cast_shadow(coverage: NDArray[np.float64], radius: float, light: float) -> NDArray[np.float64]:
    """Darken what is behind, away from the light, with a soft edge."""
    shift = SHADOW_SHIFT * radius
    columns, rows = round(-shift * np.cos(light)), round(-shift * np.sin(light))
    hard = Image.fromarray((np.roll(coverage, (rows, columns), (0, 1)) * 255).round().astype(np.uint8))
    blurred = hard.filter(ImageFilter.GaussianBlur(SHADOW_BLUR * radius))
    return np.asarray(blurred, dtype=np.float64) / 255 * SHADOW_DEPTH
