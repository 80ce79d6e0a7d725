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
from slideformer.tasks.images import OnBadImage, UnreadableImageError
from slideformer.tasks.segment.labels import read_pair
from slideformer.tasks.segment.layout import Pair, Source
from slideformer.tasks.training.batches import Unreadable, parted, refuse_nothing

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
        """The batch itself, if it may be used."""
        if self.refusal:
            raise UserError(self.refusal)
        return self


class LabelledPictures(Dataset[Any]):
    """Pictures and label maps, transformed; what cannot be used comes as `Unreadable`."""

    def __init__(
        self, source: Source, pairs: Sequence[Pair], transform: Transform, on_bad_image: OnBadImage
    ) -> None:
        self.source, self.pairs, self.transform, self.on_bad_image = source, pairs, transform, on_bad_image

    def __len__(self) -> int:
        """How many there are."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor] | Unreadable:
        """One picture ``(3, height, width)`` and its labels ``(height, width)``, or what stands for them."""
        pair = self.pairs[index]
        name = str(pair.image)
        try:
            labelled = read_pair(pair, self.source)
        except UnreadableImageError as error:
            return Unreadable.because(name, error, self.on_bad_image, told=f"{name} or {pair.labels}")
        except UserError as error:
            return Unreadable(name, str(error))
        image = torch.from_numpy(np.array(labelled.image)).permute(2, 0, 1)
        return self.transform(image, torch.from_numpy(labelled.labels))


def collate(samples: Sequence[tuple[Tensor, Tensor] | Unreadable]) -> SegmentationBatch:
    """Stack what can be used of a batch; what is to be said of the rest travels with it."""
    good, names, refused = parted(samples)
    if refused or not good:
        return SegmentationBatch(torch.empty(0, 3, 1, 1), torch.empty(0, 1, 1).long(), names, refused)
    images, masks = (torch.stack(list(column)) for column in zip(*good, strict=True))
    return SegmentationBatch(images.float() / 255, masks.long(), names)


def collate_to_train(samples: Sequence[tuple[Tensor, Tensor] | Unreadable]) -> SegmentationBatch:
    """As `collate`, but a batch of nothing is refused."""
    return refuse_nothing(collate(samples))
