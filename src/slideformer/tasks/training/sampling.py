# SPDX-License-Identifier: Apache-2.0
"""The order of the images: shuffled by seed and epoch alone, so that a resumed run continues it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sized
from typing import Any, cast

import torch
from timm.data.distributed_sampler import RepeatAugSampler
from torch.utils.data import DataLoader, Dataset, DistributedSampler

# Apart enough that the devices of one epoch never use the seed of another.
EPOCHS_APART = 10_007


class RepeatedShuffle(RepeatAugSampler, DistributedSampler[Any]):
    """Timm's repeated augmentation, as a `DistributedSampler`, which Lightning does not replace."""

    def __iter__(self) -> Iterator[Any]:
        """Iterate over an epoch; timm's order depends on its number alone, so the seed is added to that."""
        epoch, self.epoch = self.epoch, seed() + self.epoch
        try:
            return iter(list(cast("Any", super()).__iter__()))
        finally:
            self.epoch = epoch


class EachOnce(DistributedSampler[Any]):
    """One device's share of the images to evaluate, in order: each image on one device, none twice.

    PyTorch's own sampler repeats some, so that all shares are equal.
    """

    def __iter__(self) -> Iterator[int]:
        """Iterate over every ``num_replicas``-th image."""
        return iter(self.share)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.share)

    @property
    def share(self) -> range:
        """Numbers of the images of this device."""
        return range(self.rank, len(cast("Sized", self.dataset)), self.num_replicas)


def train_sampler(images: Dataset[Any], repeats: int, world_size: int, rank: int) -> DistributedSampler[Any]:
    """One device's share of the images, in a new order every epoch.

    Args:
        images: to share; their number is known.
        repeats: how often one image comes in a row; the epoch stays as long, of fewer images. 0 for once.
        world_size: number of devices.
        rank: number of this device.
    """
    if repeats:
        repeated = cast("Any", RepeatedShuffle)
        return cast("DistributedSampler[Any]", repeated(images, world_size, rank, num_repeats=repeats))
    return DistributedSampler(images, world_size, rank, seed=seed())


def seed() -> int:
    """The run's seed, the same on every device."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


class SeededLoader(DataLoader[Any]):
    """A loader whose processes begin every epoch from a seed of its own.

    The seeds come from a generator of the loader's own: the start of the processes, which is at another
    moment in a resumed run, must not draw from the random numbers of the model.
    """

    def __iter__(self) -> Any:
        """Start the processes of the sampler's epoch, when the first batch is asked for.

        Not before, since Lightning asks for the iterator first and sets the epoch afterwards.
        """
        epoch, rank = (getattr(self.sampler, name, 0) for name in ("epoch", "rank"))
        self.generator = torch.Generator().manual_seed(seed() + EPOCHS_APART * epoch + rank)
        yield from super().__iter__()
