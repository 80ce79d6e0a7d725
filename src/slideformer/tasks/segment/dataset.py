# SPDX-License-Identifier: Apache-2.0
"""Pictures with label maps as tensors, and how a batch tells which ones were unreadable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from slideformer.errors import UserError
from slideformer.tasks.pictures import UNREADABLE, OnBadImage, refusal
from slideformer.tasks.segment.labels import read_pair
from slideformer.tasks.segment.layout import Pair, Source

Transform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class SegmentationBatch(NamedTuple):
    """What a loader gives.

    Attributes:
        images: ``(B, 3, height, width)``, pixels in [0, 1].
        masks: ``(B, height, width)``, class numbers; 255 where there is none. To evaluate, of the picture's
            own size, which the image may have been resized from.
        unreadable: names of the pictures that had to be left out.
        refusal: why the batch must not be used, or nothing. It travels with the batch because an error
            in a process that reads would reach the user as that process's traceback.
    """

    images: Tensor
    masks: Tensor
    unreadable: tuple[str, ...] = ()
    refusal: str = ""

    def check(self) -> SegmentationBatch:
        """The batch itself, if it may be used.

        Raises:
            UserError: it may not.
        """
        if self.refusal:
            raise UserError(self.refusal)
        return self


class Unusable(NamedTuple):
    """Stands for a pair that cannot be read or used.

    Attributes:
        name: of the picture.
        refusal: why that ends the work, or nothing where the picture is left out.
    """

    name: str
    refusal: str = ""


class LabelledPictures(Dataset[Any]):
    """Pictures and label maps, transformed; what cannot be used comes as `Unusable`."""

    def __init__(
        self, source: Source, pairs: Sequence[Pair], transform: Transform, on_bad_image: OnBadImage
    ) -> None:
        self.source, self.pairs, self.transform, self.on_bad_image = source, pairs, transform, on_bad_image

    def __len__(self) -> int:
        """How many there are."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor] | Unusable:
        """One picture ``(3, height, width)`` and its labels ``(height, width)``, or what stands for them."""
        pair = self.pairs[index]
        name = str(pair.image)
        try:
            labelled = read_pair(pair, self.source)
        except UserError as error:
            return Unusable(name, str(error))
        except UNREADABLE as error:
            words = f"{name} or {pair.labels}"
            return Unusable(name, refusal(words, error) if self.on_bad_image == "stop" else "")
        image = torch.from_numpy(np.array(labelled.image)).permute(2, 0, 1)
        return self.transform(image, torch.from_numpy(labelled.labels))


def collate(samples: Sequence[tuple[Tensor, Tensor] | Unusable]) -> SegmentationBatch:
    """Stack what can be used of a batch; what is to be said of the rest travels with it."""
    bad = [sample for sample in samples if isinstance(sample, Unusable)]
    good = [sample for sample in samples if not isinstance(sample, Unusable)]
    names = tuple(sample.name for sample in bad)
    refusals = [sample.refusal for sample in bad if sample.refusal]
    if refusals or not good:
        empty = torch.empty(0, 3, 1, 1), torch.empty(0, 1, 1, dtype=torch.long)
        return SegmentationBatch(*empty, names, refusals[0] if refusals else "")
    images, masks = (torch.stack(list(column)) for column in zip(*good, strict=True))
    return SegmentationBatch(images.float() / 255, masks.long(), names)


def collate_to_train(samples: Sequence[tuple[Tensor, Tensor] | Unusable]) -> SegmentationBatch:
    """As `collate`, but a batch of nothing is refused."""
    batch = collate(samples)
    if len(batch.images) or batch.refusal:
        return batch
    return batch._replace(
        refusal=f"a batch must hold a readable picture, got {len(samples)} unreadable ones, the first "
        f"{batch.unreadable[0]}; mend the pictures or make the batch larger"
    )
