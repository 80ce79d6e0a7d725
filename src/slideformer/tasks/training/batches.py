# SPDX-License-Identifier: Apache-2.0
"""Reading images into batches, the same for every task: an unreadable image is left out or stops the work."""

from __future__ import annotations

import multiprocessing
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence, Sized
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, cast

from torch.utils.data import DataLoader, Dataset, IterableDataset

from slideformer.errors import UserError, check_range
from slideformer.tasks.images import OnBadImage, UnreadableImageError, unreadable_message
from slideformer.tasks.training.sampling import EachOnce

MOST_WORKERS = 1024
# From so many images on, processes that read gain more than their start costs.
MANY = 64
# How many processes read: a number, "auto" for one that suits the images, None where that is safe everywhere.
Workers: TypeAlias = int | Literal["auto"] | None


class Batch(NamedTuple):
    """Images and targets, as a loader gives them.

    Attributes:
        images: a tensor ``(B, 3, height, width)``; for a detector a list of tensors ``(3, height, width)``.
        targets: class numbers ``(B,)``; label maps ``(B, height, width)``; or a list with a dict an image.
        unreadable: paths of the images that were left out.
        reasons: why each of them could not be read.
        refusal: why the batch must not be used; empty if it may. It travels with the batch because an error
            in a process that reads would reach the user as the traceback of that process.
        cropped_away: number of objects of which the random crops left nothing.
    """

    images: Any
    targets: Any
    unreadable: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    refusal: str = ""
    cropped_away: int = 0

    def check(self) -> Batch:
        """Return the batch itself if it may be used.

        Raises:
            UserError: it may not.
        """
        if self.refusal:
            raise UserError(self.refusal)
        return self


class Unreadable(NamedTuple):
    """The place of an image that cannot be used.

    Attributes:
        path: of the image.
        refusal: why that ends the work; empty where the image is left out.
        reason: why it cannot be used.
    """

    path: str
    refusal: str = ""
    reason: str = ""


class Reader(Protocol):
    """Labelled images by number."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Read one image and its target.

        Raises:
            UnreadableImageError: the image cannot be read.
            UserError: image or target cannot be used.
        """
        ...

    def name(self, index: int) -> str:
        """Return the name of one image for messages, such as its path."""
        ...


class Stream(ABC):
    """Labelled images that come one by one.

    The stream itself shuffles, and gives each device and each of its reading processes other images (see
    ``torch.utils.data.get_worker_info``).
    """

    @abstractmethod
    def __len__(self) -> int:
        """Return how many there are on this device."""

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[str, Callable[[], tuple[Any, Any]]]]:
        """Iterate over the name of each image, and a function that reads it and its target."""

    @abstractmethod
    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, on whose number the order depends."""


# From what a reader gives to what a batch is made of.
Transform = Callable[[Any, Any], tuple[Any, ...]]


def read_or_skip(
    read: Callable[[], tuple[Any, ...]], name: str, on_bad_image: OnBadImage
) -> tuple[Any, ...] | Unreadable:
    """Read a sample; give `Unreadable` for one that cannot be used.

    Args:
        read: reads and transforms it.
        name: of the image.
        on_bad_image: ``skip`` leaves an unreadable image out, ``stop`` ends the work, as other errors do.
    """
    try:
        return read()
    except UnreadableImageError as error:
        refusal = unreadable_message(name, error) if on_bad_image == "stop" else ""
        return Unreadable(name, refusal, error.reason)
    except UserError as error:
        return Unreadable(name, str(error), str(error))


class Images(Dataset[Any]):
    """Samples of a reader; one that cannot be used comes as `Unreadable`.

    Args:
        reader: gives images and targets.
        transform: what is done to each pair.
        on_bad_image: what to do with an unreadable image.
    """

    def __init__(self, reader: Reader, transform: Transform, on_bad_image: OnBadImage) -> None:
        self.reader, self.transform, self.on_bad_image = reader, transform, on_bad_image

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.reader)

    def __getitem__(self, index: int) -> tuple[Any, ...] | Unreadable:
        """Read and transform one sample."""
        read = partial(self.sample, index)
        return read_or_skip(read, self.reader.name(index), self.on_bad_image)

    def sample(self, index: int) -> tuple[Any, ...]:
        """Read and transform one sample, which must be usable."""
        return self.transform(*self.reader[index])


class ImageStream(IterableDataset[Any]):
    """Samples of a stream; one that cannot be used comes as `Unreadable`.

    Args:
        stream: gives images and targets.
        transform: what is done to each pair.
        on_bad_image: what to do with an unreadable image.
    """

    def __init__(self, stream: Stream, transform: Transform, on_bad_image: OnBadImage) -> None:
        self.stream, self.transform, self.on_bad_image = stream, transform, on_bad_image

    def __len__(self) -> int:
        """Return how many there are on this device."""
        return len(self.stream)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, on whose number the order depends."""
        self.stream.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[Any, ...] | Unreadable]:
        """Read and transform one sample after the other."""
        for name, read in self.stream:
            yield read_or_skip(partial(self.sample, read), name, self.on_bad_image)

    def sample(self, read: Callable[[], tuple[Any, Any]]) -> tuple[Any, ...]:
        """Read and transform one sample, which must be usable."""
        return self.transform(*read())


def collate(
    samples: Sequence[tuple[Any, ...] | Unreadable],
    *,
    stack: Callable[[Sequence[Any]], Batch],
    training: bool = False,
) -> Batch:
    """Make a batch of the usable samples, perhaps none; what is to be said of the others travels with it.

    Args:
        samples: as `Images` gives them.
        stack: makes a batch of usable samples.
        training: whether a batch without a usable sample must not be used.
    """
    bad = [sample for sample in samples if isinstance(sample, Unreadable)]
    good = [sample for sample in samples if not isinstance(sample, Unreadable)]
    refusal = next((sample.refusal for sample in bad if sample.refusal), "")
    if training and not good and not refusal:
        refusal = (
            f"a batch must hold a readable image, got {len(bad)} unreadable ones, the first {bad[0].path}; "
            "fix the images or make the batch larger"
        )
    batch = stack([] if refusal else good)
    return batch._replace(
        unreadable=tuple(sample.path for sample in bad),
        reasons=tuple(sample.reason for sample in bad),
        refusal=refusal,
    )


def usual_workers() -> int:
    """How many processes read a large set of images: one a core, at most 8."""
    return min(8, os.cpu_count() or 1)


def processes_are_forked() -> bool:
    """Whether new processes are copies of this one; else each runs the program's main file again."""
    # Asking without `allow_none` would choose the method for the program, which may still set another.
    chosen = multiprocessing.get_start_method(allow_none=True)
    return (chosen or multiprocessing.get_all_start_methods()[0]) == "fork"


def check_workers(num_workers: Workers) -> None:
    """Check how many processes are to read."""
    if num_workers != "auto":
        check_range("`num_workers`", num_workers, 0, MOST_WORKERS)


def ordered_loader(
    images: Dataset[Any],
    stack: Callable[[Sequence[Any]], Batch],
    *,
    batch_size: int,
    num_workers: Workers,
    share: tuple[int, int] = (1, 0),
) -> DataLoader[Any]:
    """Return a loader of all images, in order, nothing random.

    Args:
        images: to evaluate on.
        stack: makes a batch of usable samples.
        batch_size: images a batch.
        num_workers: processes that read; 0 reads in this one; ``auto`` for one a core, at most 8, of many
            images and for 0 of few; None for ``auto`` where processes are forked, else 0.
        share: number of devices that share the images, and which of them this is.

    Raises:
        UserError: a number is out of range.
    """
    check_range("`batch_size`", batch_size, 1)
    check_workers(num_workers)
    # A stream is shared among the devices by its own reader.
    sampler = None if isinstance(images, IterableDataset) else EachOnce(images, *share)
    if num_workers is None:
        num_workers = "auto" if processes_are_forked() else 0
    if num_workers == "auto":
        num_workers = usual_workers() if len(cast("Sized", images)) >= MANY else 0
    return DataLoader(
        images,
        batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=partial(collate, stack=stack),
    )
