# SPDX-License-Identifier: Apache-2.0
"""What stands in a batch for images that cannot be read, whatever the task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from slideformer.errors import UserError, check_range
from slideformer.tasks.images import OnBadImage, UnreadableImageError, refusal

# One of the tasks' named tuples, with ``images``, ``unreadable`` and ``refusal``.
Batch = TypeVar("Batch", bound=Any)


# A batch of a thousand images of 1024 x 1024; 12 GiB as float32.
MOST_PIXELS = 1 << 30
MOST_WORKERS = 1024


def check_loading(batch_size: int, num_workers: int | None, pixels: int, most_pixels: int) -> None:
    """Refuse a batch that no memory holds, and more processes than a machine has.

    Args:
        batch_size: images a batch.
        num_workers: processes that read; None is a number that is chosen.
        pixels: of an image.
        most_pixels: largest number of pixels of a batch.

    Raises:
        UserError: a number is out of range.
    """
    check_range("--data.batch_size", batch_size, 1)
    check_range("--data.num_workers", num_workers, 0, MOST_WORKERS)
    check_range("--data.most_pixels", most_pixels, 1)
    if batch_size * pixels > most_pixels:
        raise UserError(
            f"a batch must have at most {most_pixels} pixels, got {batch_size} images of {pixels}; "
            "lower sizes or --data.batch_size, or raise --data.most_pixels"
        )


class Unreadable(NamedTuple):
    """Stands for an image that cannot be read or used.

    Attributes:
        path: of the image.
        refusal: why that ends the work, or nothing where the image is left out.
    """

    path: str
    refusal: str = ""

    @classmethod
    def because(
        cls, path: str, error: UnreadableImageError, on_bad_image: OnBadImage, told: str = ""
    ) -> Unreadable:
        """What stands for an image that was not read.

        Args:
            path: of the image.
            error: what reading it raised.
            on_bad_image: what the user wants of such images.
            told: which file to name, where it may be another one that is at fault.
        """
        return cls(path, refusal(told if told else path, error) if on_bad_image == "stop" else "")


def parted(samples: Sequence[Any]) -> tuple[list[Any], tuple[str, ...], str]:
    """The readable samples of a batch, the paths of the others, and why these end the work, or nothing."""
    bad = [sample for sample in samples if isinstance(sample, Unreadable)]
    good = [sample for sample in samples if not isinstance(sample, Unreadable)]
    refusals = [sample.refusal for sample in bad if sample.refusal]
    return good, tuple(sample.path for sample in bad), refusals[0] if refusals else ""


def refuse_nothing(batch: Batch) -> Batch:
    """A batch to train on; one of which nothing could be read comes with its refusal."""
    if len(batch.images) or batch.refusal:
        return batch
    paths = batch.unreadable
    refused: Batch = batch._replace(
        refusal=f"a batch must hold a readable image, got {len(paths)} unreadable ones, the first "
        f"{paths[0]}; mend the images or make the batch larger"
    )
    return refused
