# SPDX-License-Identifier: Apache-2.0
"""The order of training images: shuffled by seed and epoch alone, so that a resumed run goes on in it."""

from __future__ import annotations

import os
from collections.abc import Sized
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from timm.data.distributed_sampler import RepeatAugSampler
from timm.utils import random_seed
from torch.utils.data import Dataset, DistributedSampler

# Apart enough that the devices of one epoch never use the seed of another.
EPOCHS_APART = 10_007


class RepeatedShuffle(RepeatAugSampler, DistributedSampler[Any]):
    """Timm's repeated augmentation, as a `DistributedSampler`, the kind that Lightning leaves as it is."""


def train_sampler(dataset: Sized, repeats: int, world_size: int, rank: int) -> DistributedSampler[Any]:
    """One device's share of the images, in a new order every epoch.

    Args:
        dataset: the images.
        repeats: how often one image comes in a row; the epoch stays as long, of fewer images. 0 for once.
        world_size: number of devices.
        rank: number of this device.
    """
    images = cast("Dataset[Any]", dataset)
    if repeats:
        repeated = cast("Any", RepeatedShuffle)
        return cast("DistributedSampler[Any]", repeated(images, world_size, rank, num_repeats=repeats))
    return DistributedSampler(images, world_size, rank, seed=seed())


def seed() -> int:
    """The run's seed, the same on every device."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


class EpochSeed(Callback):
    """Starts every epoch from a seed of its own: what is random in it does not depend on earlier ones.

    A resumed run repeats no epoch's randomness, and with ``num_workers=0`` it equals an uninterrupted one
    number for number. Processes that read images keep random states of their own.
    """

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed Python, NumPy and PyTorch, differently on each device."""
        random_seed(seed() + EPOCHS_APART * trainer.current_epoch, trainer.global_rank)
