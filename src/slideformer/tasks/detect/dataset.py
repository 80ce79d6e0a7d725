# SPDX-License-Identifier: Apache-2.0
"""Annotated pictures as tensors, and how a batch tells which ones were unreadable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from slideformer.errors import UserError
from slideformer.tasks.detect import masks
from slideformer.tasks.detect.check import size_refusal
from slideformer.tasks.detect.coco import Annotation, CocoSet, Picture, trainable
from slideformer.tasks.detect.transforms import without_empty_masks
from slideformer.tasks.images import OnBadImage, UnreadableImageError, turned
from slideformer.tasks.orientation import read_with_header
from slideformer.tasks.training.batches import Unreadable, parted, refuse_nothing

Target = dict[str, Tensor]


class DetectionBatch(NamedTuple):
    """What a loader gives.

    Attributes:
        images: each ``(3, height, width)``, 0 to 1, of its own size.
        targets: of each image, in torchvision's words: ``boxes`` ``(N, 4)`` left, top, right, bottom in
            pixels, ``labels`` ``(N,)`` from 1, ``masks`` ``(N, height, width)`` in training, ``image_id``.
        unreadable: paths of the images that had to be left out.
        cropped_away: objects of which the random crops left nothing.
        refusal: why the batch must not be used, or nothing. It travels with the batch because an error
            in a process that reads would reach the user as that process's traceback.
    """

    images: list[Tensor]
    targets: list[Target]
    unreadable: tuple[str, ...] = ()
    cropped_away: int = 0
    refusal: str = ""

    def check(self) -> DetectionBatch:
        """The batch itself, if it may be used."""
        if self.refusal:
            raise UserError(self.refusal)
        return self


Sample = tuple[Tensor, Target, int]


class AnnotatedPictures(Dataset[Any]):
    """Pictures with what is on them.

    Args:
        data: the pictures and their annotations.
        pictures: those of them to give.
        transform: what is done to each.
        on_bad_image: what to do with an unreadable one.
        training: whether targets are clipped, have masks and leave out crowds; if not, they are as annotated.
    """

    def __init__(
        self,
        data: CocoSet,
        pictures: Sequence[Picture],
        transform: v2.Transform,
        on_bad_image: OnBadImage,
        *,
        training: bool,
    ) -> None:
        self.data, self.pictures, self.transform = data, pictures, transform
        self.on_bad_image, self.training = on_bad_image, training

    def __len__(self) -> int:
        """How many there are."""
        return len(self.pictures)

    def __getitem__(self, index: int) -> Sample | Unreadable:
        """A transformed picture, its target and how many objects were cropped away, or what stands for it."""
        picture = self.pictures[index]
        try:
            image = v2.functional.to_image(read_picture(picture, self.data))
        except UnreadableImageError as error:
            return Unreadable.because(str(picture.file), error, self.on_bad_image)
        except UserError as error:
            return Unreadable(str(picture.file), str(error))
        annotations = self.data.annotations[picture.image_id]
        target = (train_target if self.training else eval_target)(annotations, picture)
        objects = len(target["labels"])
        pixels, target = self.transform(image, target)
        if self.training:
            target = without_empty_masks(target)
        # Plain tensors, which travel between processes and through models as any others do.
        plain = {name: torch.as_tensor(value).as_subclass(Tensor) for name, value in target.items()}
        return pixels.as_subclass(Tensor), plain, objects - len(plain["labels"])


def read_picture(picture: Picture, data: CocoSet) -> Image.Image:
    """A picture as it was annotated: upright or as it is stored, as its size shows, else as the set says."""
    image, header = read_with_header(picture.file)
    drawn = header.drawn((picture.width, picture.height), data.drawn)
    if drawn is None:
        raise UserError(size_refusal(data.file, picture, header.stored))
    return turned(image, header.orientation) if drawn == "upright" else image


def train_target(annotations: Sequence[Annotation], picture: Picture) -> Target:
    """Clipped boxes, labels and masks of what is trained on."""
    rows = trainable(annotations)
    target = boxes_and_labels([row.corners for row in rows], rows, picture)
    drawn = [masks.decode(row.mask) for row in rows if row.mask is not None]
    if len(drawn) == len(rows):
        pixels = np.stack(drawn) if drawn else np.zeros((0, picture.height, picture.width), np.uint8)
        target["masks"] = tv_tensors.Mask(torch.from_numpy(pixels))
    return target


def eval_target(annotations: Sequence[Annotation], picture: Picture) -> Target:
    """Boxes, labels, areas and crowds as annotated, of all."""
    corners = [
        (row.box[0], row.box[1], row.box[0] + row.box[2], row.box[1] + row.box[3]) for row in annotations
    ]
    target = boxes_and_labels(corners, annotations, picture)
    target["area"] = torch.tensor([row.area for row in annotations], dtype=torch.float32)
    target["iscrowd"] = torch.tensor([int(row.crowd) for row in annotations], dtype=torch.int64)
    return target


def boxes_and_labels(corners: Sequence[Any], rows: Sequence[Annotation], picture: Picture) -> Target:
    """What every target has."""
    boxes = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
    size = (picture.height, picture.width)
    return {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "labels": torch.tensor([row.label for row in rows], dtype=torch.int64),
        "image_id": torch.tensor(picture.image_id),
    }


def collate(samples: Sequence[Sample | Unreadable]) -> DetectionBatch:
    """The readable images of a batch, perhaps none; what is to be said of the others travels with it."""
    good, paths, refused = parted(samples)
    return DetectionBatch(
        images=[image for image, _, _ in good],
        targets=[target for _, target, _ in good],
        unreadable=paths,
        cropped_away=sum(cropped for _, _, cropped in good),
        refusal=refused,
    )


def collate_to_train(samples: Sequence[Sample | Unreadable]) -> DetectionBatch:
    """As `collate`, but a batch of nothing is refused."""
    return refuse_nothing(collate(samples))
