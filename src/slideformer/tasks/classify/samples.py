# SPDX-License-Identifier: Apache-2.0
"""Batches of labelled images, and the loader that evaluates; without what only a training needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from slideformer.tasks.classify.sources import Source
from slideformer.tasks.images import OnBadImage
from slideformer.tasks.training.batches import Batch, Images, ImageStream, Stream, Workers, ordered_loader


class OnImage:
    """Applies a transform to the image of a pair.

    Args:
        transform: makes a tensor of an image.
    """

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __call__(self, image: Image.Image, target: int) -> tuple[Tensor, int]:
        """Transform the image."""
        return self.transform(image), target


def images_of(source: Source, split: str, transform: Any, on_bad_image: OnBadImage) -> Dataset[Any]:
    """The transformed images of ``train`` or ``val``."""
    opened = source.open(split)
    if isinstance(opened, Stream):
        return ImageStream(opened, OnImage(transform), on_bad_image)
    return Images(opened, OnImage(transform), on_bad_image)


def stack(samples: Sequence[tuple[Tensor, int]]) -> Batch:
    """Make a batch of images of one size, perhaps of none."""
    if not samples:
        return Batch(torch.empty(0), torch.empty(0))
    images, targets = zip(*samples, strict=True)
    return Batch(torch.stack(images), torch.as_tensor(targets))


def eval_loader(
    source: Source,
    transform: Callable[[Image.Image], Tensor],
    *,
    batch_size: int,
    num_workers: Workers,
    on_bad_image: OnBadImage,
) -> DataLoader[Any]:
    """Loader of the hold-out of a source, in order, nothing random.

    Args:
        source: as `open_hold_out` gives it.
        transform: makes of an image what the model takes.
        batch_size: images a batch.
        num_workers: as of `ordered_loader`.
        on_bad_image: what to do with an unreadable image.

    Raises:
        UserError: a number is out of range.
    """
    images = images_of(source, "val", transform, on_bad_image)
    return ordered_loader(images, stack, batch_size=batch_size, num_workers=num_workers)
