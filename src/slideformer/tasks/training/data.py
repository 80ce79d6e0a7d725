# SPDX-License-Identifier: Apache-2.0
"""The base of the tasks' data modules: who reads which image, in which batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence, Sized
from functools import partial
from typing import Any, cast

import lightning as L
from torch.utils.data import DataLoader, Dataset, IterableDataset

from slideformer.console import print_line
from slideformer.errors import UserError, check_range
from slideformer.tasks.images import OnBadImage
from slideformer.tasks.training.batches import MOST_WORKERS, Batch, collate, ordered_loader, usual_workers
from slideformer.tasks.training.sampling import SeededLoader, train_sampler

# A batch of a thousand images of 1024 x 1024; 12 GiB as float32.
MOST_PIXELS = 1 << 30


class ImageData(L.LightningDataModule, ABC):
    """Images to train on and held-out images; each task derives from it.

    Args:
        source: where they are.
        batch_size: images a batch and device.
        num_workers: processes that read images; None for one a core, at most 8.
        on_bad_image: what to do with an unreadable image.
        stack: makes a batch of usable samples.
        pixels: of an image of a batch.
        most_pixels: largest number of pixels of a batch.

    Attributes:
        say: prints a line before the training.

    Raises:
        UserError: a number is out of range.
    """

    def __init__(
        self,
        source: str,
        batch_size: int,
        num_workers: int | None,
        on_bad_image: OnBadImage,
        *,
        stack: Callable[[Sequence[Any]], Batch],
        pixels: int,
        most_pixels: int,
    ) -> None:
        super().__init__()
        check_loading(batch_size, num_workers, pixels, most_pixels)
        self.source, self.batch_size, self.on_bad_image = source, batch_size, on_bad_image
        self.num_workers = usual_workers() if num_workers is None else num_workers
        self.stack = stack
        self.say: Callable[[str], None] = print_line

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of their numbers."""

    @property
    def label_names(self) -> list[str]:
        """Names of the classes that are saved with a model; empty if unknown."""
        return self.class_names

    @property
    def num_classes(self) -> int:
        """Number of classes, the background of a detector not counted."""
        return len(self.class_names)

    @property
    def evaluable(self) -> bool:
        """Whether ``slideformer evaluate`` reads the source."""
        return True

    @property
    def evaluate_words(self) -> list[str]:
        """The words of ``slideformer evaluate`` that name the source."""
        return ["--data", self.source]

    @property
    @abstractmethod
    def train_size(self) -> tuple[int, int]:
        """Height and width in pixels of a training image; of a usual one, where they differ."""

    @property
    def repeats(self) -> int:
        """How often one image comes in a batch of training, differently augmented; 0 for once."""
        return 0

    @abstractmethod
    def train_images(self) -> Dataset[Any]:
        """Random, augmented images to train on."""

    @abstractmethod
    def val_images(self) -> Dataset[Any]:
        """Images of the hold-out, nothing random."""

    def train_dataloader(self) -> DataLoader[Any]:
        """Random, augmented batches of equal size."""
        images = self.train_images()
        # A stream shuffles, and is shared among the devices, by its own reader.
        stream = isinstance(images, IterableDataset)
        sampler = None if stream else train_sampler(images, self.repeats, *self.place())
        return SeededLoader(
            images,
            self.batch_size,
            sampler=sampler,
            # Equal batches, unless the images of a device do not make one.
            drop_last=sampler is None or len(sampler) >= self.batch_size,
            num_workers=self.num_workers,
            collate_fn=partial(collate, stack=self.stack, training=True),
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """The hold-out, in order.

        Raises:
            UserError: there are fewer images than devices.
        """
        images, (devices, rank) = self.val_images(), self.place()
        if not isinstance(images, IterableDataset) and len(cast("Sized", images)) < devices:
            raise UserError(
                f"the hold-out must have an image for each of the {devices} devices, got "
                f"{len(cast('Sized', images))}; hold more images out, or choose fewer `devices`"
            )
        return ordered_loader(
            images,
            self.stack,
            batch_size=self.val_batch_size,
            num_workers=self.num_workers,
            share=(devices, rank),
        )

    @property
    def val_batch_size(self) -> int:
        """Images a batch of the hold-out."""
        return self.batch_size

    def place(self) -> tuple[int, int]:
        """Number of devices, and which of them this is."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)


def check_loading(batch_size: int, num_workers: int | None, pixels: int, most_pixels: int) -> None:
    """Reject a batch that no memory holds, and more processes than a machine has.

    Args:
        batch_size: images a batch.
        num_workers: processes that read; None is a number that is chosen.
        pixels: of an image.
        most_pixels: largest number of pixels of a batch.
    """
    check_range("`batch_size`", batch_size, 1)
    check_range("`num_workers`", num_workers, 0, MOST_WORKERS)
    check_range("`most_pixels`", most_pixels, 1)
    if batch_size * pixels > most_pixels:
        raise UserError(
            f"a batch must have at most {most_pixels} pixels, got {batch_size} images of {pixels}; "
            "lower sizes or `batch_size`, or raise `most_pixels`"
        )
