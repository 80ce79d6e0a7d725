# SPDX-License-Identifier: Apache-2.0
"""Parts of the images of a reader, which depend on nothing but how many images there are."""

from __future__ import annotations

from typing import Any

import torch

from slideformer.errors import UserError
from slideformer.tasks.training.batches import Reader, Stream


class Part:
    """Some images of a reader.

    Args:
        reader: of all images.
        numbers: of the images, in the reader.
    """

    def __init__(self, reader: Reader, numbers: list[int]) -> None:
        self.reader, self.numbers = reader, numbers

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Read one image and its target."""
        return self.reader[self.numbers[index]]

    def name(self, index: int) -> str:
        """Return what to call one image."""
        return self.reader.name(self.numbers[index])


def shuffled(count: int) -> list[int]:
    """Numbers from 0 in an order that is always the same."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()


def held_out(images: Reader | Stream, fraction: float, split: str, source: str) -> Part:
    """The images of a training split that are held out, or the others.

    Args:
        images: of the training split.
        fraction: of them that is held out; one image at least, and never all.
        split: ``val`` for those held out, ``train`` for the others.
        source: their name, for errors.

    Raises:
        UserError: the images come without numbers, or there are fewer than two.
    """
    if isinstance(images, Stream):
        raise UserError(
            "a source must give its images by number for a part of them to be held out, got the stream "
            f"{source}; leave `val_fraction` out"
        )
    if len(images) < 2:
        raise UserError(
            f"{source} must hold 2 images, one to train on and one to hold out, got {len(images)}; add images"
        )
    count = min(max(1, round(fraction * len(images))), len(images) - 1)
    numbers = shuffled(len(images))
    return Part(images, numbers[:count] if split == "val" else numbers[count:])


def first_images(images: Reader, count: int) -> Part:
    """So many images, chosen at random once and for all: more of them hold all of fewer.

    Raises:
        UserError: there are not so many.
    """
    if count > len(images):
        raise UserError(
            f"`train_images` must be at most the {len(images)} images to train on, got {count}; lower it"
        )
    return Part(images, shuffled(len(images))[:count])
