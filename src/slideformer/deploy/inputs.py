# SPDX-License-Identifier: Apache-2.0
"""The images that exported files are checked with and that int8 is calibrated with, as a model's inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from slideformer.errors import UserError
from slideformer.runs import EvalTransform, Preprocessing
from slideformer.tasks.given import Source, as_image, find_sources
from slideformer.tasks.images import UnreadableImageError
from slideformer.tasks.scenes.photographs import load_photographs

Item = TypeVar("Item")
# Images that int8 is calibrated with; more make no difference.
CALIBRATION = 128
# As many as the largest batch that files are checked with.
CHECKED = 3
DIGITS = "digits"


def read_images(
    sources: Sequence[Source], most: int, say: Callable[[str], object] = warnings.warn
) -> list[Image.Image]:
    """Read images; without any, photographs that libraries ship.

    Those that cannot be read are left out, and others take their places.

    Args:
        sources: paths, folders, globs, images or arrays, or the one word ``digits``.
        most: of them, evenly spread.
        say: is given a line on each image that is left out.

    Raises:
        UserError: a path names no image, or none can be read.
    """
    if not sources:
        return bundled()
    if len(sources) == 1 and isinstance(sources[0], str) and sources[0] == DIGITS:
        from slideformer.tasks.classify import digits

        return spread(digits.load("train")[0], most)
    images: list[Image.Image] = []
    unreadable: list[str] = []
    found = find_sources(sources)
    first = spread(range(len(found)), most)
    for number in [*first, *sorted({*range(len(found))} - {*first})]:
        if len(images) == most:
            break
        try:
            images.append(as_image(found[number]))
        except UnreadableImageError as error:
            unreadable.append(str(error))
    if not images:
        raise UserError(
            f"an image must be complete and readable, got {'; '.join(unreadable)}; repair it or give another"
        )
    for line in unreadable:
        say(f"left out, unreadable: {line}")
    return images


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many items, evenly spread, since classes often come one after another."""
    if len(items) <= most:
        return list(items)
    return [items[number * len(items) // most] for number in range(most)]


def bundled() -> list[Image.Image]:
    """Photographs that scikit-image and scikit-learn ship."""
    try:
        return [*load_photographs("val"), *load_photographs("train")]
    except UserError as error:
        raise UserError(
            "`images` must be given, since scikit-image and scikit-learn, which ship some, are not both "
            "installed"
        ) from error


def stretched(images: Sequence[Image.Image], how: Preprocessing | None, size: tuple[int, int, int]) -> Tensor:
    """Resize and normalise images to a batch ``(B, 3, height, width)``.

    Args:
        images: repeated from the first one where the batch is larger.
        how: of a classifier, its normalisation; None for a model that takes pixels from 0 to 1.
        size: batch, height and width.
    """
    batch, height, width = size
    resized = [x.resize((width, height), Image.Resampling.BICUBIC) for x in islice(cycle(images), batch)]
    pixels = torch.stack([pil_to_tensor(image) for image in resized]).float() / 255
    if how is None:
        return pixels
    mean, std = (torch.tensor(values)[:, None, None] for values in (how.mean, how.std))
    return (pixels - mean) / std


def prepared(images: Sequence[Image.Image], how: Preprocessing | None, size: tuple[int, int]) -> list[Tensor]:
    """Each image as an input ``(1, 3, height, width)``, prepared as in evaluation.

    Args:
        images: upright, RGB.
        how: of a classifier; None for a model that takes pixels from 0 to 1.
        size: height and width.
    """
    if how is None:
        return [stretched([image], None, (1, *size)) for image in images]
    transform = EvalTransform(how.for_size(size))
    return [transform(image)[None] for image in images]
