# SPDX-License-Identifier: Apache-2.0
"""Annotated images as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from slideformer.errors import UserError
from slideformer.tasks.detect import masks
from slideformer.tasks.detect.check import size_message
from slideformer.tasks.detect.coco import Annotation, CocoImage, CocoSet, trainable
from slideformer.tasks.detect.transforms import without_empty_masks
from slideformer.tasks.images import apply_orientation
from slideformer.tasks.orientation import read_with_header
from slideformer.tasks.training.batches import Batch

# Of one image, in torchvision's words: ``boxes`` ``(N, 4)`` left, top, right, bottom in pixels, ``labels``
# ``(N,)`` from 1, ``masks`` ``(N, height, width)`` in training, ``image_id``.
Target = dict[str, Tensor]
# Image, target, and the number of objects of which a random crop left nothing.
Sample = tuple[Tensor, Target, int]


class CocoReader:
    """Images with their annotations, by number.

    Args:
        data: images and annotations.
        images: those of the images that are read.
        training: whether targets are clipped, have masks and leave out crowds; if not, they are as annotated.
    """

    def __init__(self, data: CocoSet, images: Sequence[CocoImage], *, training: bool) -> None:
        self.data, self.images, self.training = data, images, training

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """Read one image ``(3, height, width)``, 8-bit, and its target."""
        image = self.images[index]
        pixels = v2.functional.to_image(read_annotated(image, self.data))
        target = train_target if self.training else eval_target
        return pixels, target(self.data.annotations[image.image_id], image)

    def name(self, index: int) -> str:
        """Return the path of one image."""
        return str(self.images[index].file)


class ToSample:
    """Applies a transform to an image and its target, and counts the objects that are cropped away.

    Args:
        transform: of torchvision, for image and target together.
    """

    def __init__(self, transform: v2.Transform) -> None:
        self.transform = transform

    def __call__(self, image: Tensor, target: Target) -> Sample:
        """Transform both."""
        objects = len(target["labels"])
        image, target = self.transform(image, target)
        target = without_empty_masks(target)
        # Plain tensors, which travel between processes and through models as any others do.
        plain = {name: torch.as_tensor(value).as_subclass(Tensor) for name, value in target.items()}
        return image.as_subclass(Tensor), plain, objects - len(plain["labels"])


def read_annotated(image: CocoImage, data: CocoSet) -> Image.Image:
    """Read an image as it was annotated: upright or as stored, as its size shows, else as the set says."""
    stored, header = read_with_header(image.file)
    drawn = header.drawn((image.width, image.height), data.drawn)
    if drawn is None:
        raise UserError(size_message(data.file, image, header.stored))
    return apply_orientation(stored, header.orientation) if drawn == "upright" else stored


def train_target(annotations: Sequence[Annotation], image: CocoImage) -> Target:
    """Clipped boxes, labels and masks of the objects to train on."""
    rows = trainable(annotations)
    target = boxes_and_labels([row.corners for row in rows], rows, image)
    drawn = [masks.decode(row.mask) for row in rows if row.mask is not None]
    if len(drawn) == len(rows):
        pixels = np.stack(drawn) if drawn else np.zeros((0, image.height, image.width), np.uint8)
        target["masks"] = tv_tensors.Mask(torch.from_numpy(pixels))
    return target


def eval_target(annotations: Sequence[Annotation], image: CocoImage) -> Target:
    """Boxes, labels, areas and crowds of all objects, as annotated."""
    corners = [
        (row.box[0], row.box[1], row.box[0] + row.box[2], row.box[1] + row.box[3]) for row in annotations
    ]
    target = boxes_and_labels(corners, annotations, image)
    target["area"] = torch.tensor([row.area for row in annotations], dtype=torch.float32)
    target["iscrowd"] = torch.tensor([int(row.crowd) for row in annotations], dtype=torch.int64)
    return target


def boxes_and_labels(corners: Sequence[Any], rows: Sequence[Annotation], image: CocoImage) -> Target:
    """The entries that every target has."""
    boxes = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
    size = (image.height, image.width)
    return {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "labels": torch.tensor([row.label for row in rows], dtype=torch.int64),
        "image_id": torch.tensor(image.image_id),
    }


def stack(samples: Sequence[Sample]) -> Batch:
    """Make a batch of images of different sizes, perhaps of none."""
    return Batch(
        images=[image for image, _, _ in samples],
        targets=[target for _, target, _ in samples],
        cropped_away=sum(cropped for _, _, cropped in samples),
    )
