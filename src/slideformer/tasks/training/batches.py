# SPDX-License-Identifier: Apache-2.0
"""What stands in a batch for images that cannot be read, whatever the task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from slideformer.tasks.pictures import OnBadImage, UnreadableImageError, refusal

# One of the tasks' named tuples, with ``images``, ``unreadable`` and ``refusal``.
Batch = TypeVar("Batch", bound=Any)


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
