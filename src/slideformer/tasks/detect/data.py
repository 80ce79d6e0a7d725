# SPDX-License-Identifier: Apache-2.0
"""Loaders of annotated images, for training and for evaluation."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader, Dataset

from slideformer.dense.detector import find_head
from slideformer.runs.run import Drawn
from slideformer.tasks.detect.check import check_image, check_splits
from slideformer.tasks.detect.coco import CocoImage, CocoSet, read_coco, trainable
from slideformer.tasks.detect.dataset import CocoReader, ToSample, stack
from slideformer.tasks.detect.layout import find_split
from slideformer.tasks.detect.transforms import Augment, eval_transform, train_transform
from slideformer.tasks.images import OnBadImage
from slideformer.tasks.orientation import ambiguous_line
from slideformer.tasks.training.batches import Images, Workers, ordered_loader
from slideformer.tasks.training.data import MOST_PIXELS, ImageData
from slideformer.tasks.training.findings import Findings


class DetectionData(ImageData):
    """Training and hold-out images with annotations in COCO's format.

    Args:
        source: a folder like COCO's, with ``annotations/instances_{train,val}*.json`` and ``{train,val}*/``.
        batch_size: images a batch and device. Batches of training are equal: what is left over at the end
            of an epoch, other images in each, is not used.
        num_workers: processes that read images; None for one a core, at most 8.
        augment: random changes of training images.
        on_bad_image: ``skip`` leaves an unreadable image out, prints its path and counts it; ``stop`` stops.
        detector: kind of the detector, which decides whether masks are needed.
        keep_empty: whether images without an object are trained on.
        orientation: on which pixels annotations were drawn, ``upright`` ones or those ``stored``, where EXIF
            rotates an image and its size does not show it.
        train_annotations: file of COCO's JSON, where it is elsewhere.
        val_annotations: file of COCO's JSON, where it is elsewhere.
        train_images: folder of images, where it is elsewhere.
        val_images: folder of images, where it is elsewhere.
        most_pixels: largest number of pixels of a batch; more is taken for a mistake.

    Attributes:
        train: images and annotations to train on.
        val: images and annotations held out.
        findings: what was found in them.

    Raises:
        UserError: the source does not exist or cannot be trained on.
    """

    def __init__(
        self,
        source: str,
        batch_size: int = 2,
        num_workers: int | None = None,
        augment: Augment = Augment(),  # noqa: B008 - frozen
        on_bad_image: OnBadImage = "skip",
        detector: str = "mask_rcnn",
        keep_empty: bool = True,
        orientation: Drawn = "upright",
        train_annotations: str | None = None,
        val_annotations: str | None = None,
        train_images: str | None = None,
        val_images: str | None = None,
        most_pixels: int = MOST_PIXELS,
    ) -> None:
        super().__init__(
            source,
            batch_size,
            num_workers,
            on_bad_image,
            stack=stack,
            pixels=max(augment.longest_side, *augment.crop_sides) ** 2,
            most_pixels=most_pixels,
        )
        self.augment, self.orientation = augment, orientation
        self.findings = Findings()
        splits = (
            find_split(source, "train", train_annotations, train_images),
            find_split(source, "val", val_annotations, val_images),
        )
        self.train, self.val = (
            read_coco(split, self.findings, with_masks=find_head(detector).masks, drawn=orientation)
            for split in splits
        )
        check_splits(self.train, self.val, self.findings)
        self.findings.check()
        self.images_to_train_on = self.chosen(keep_empty)

    def chosen(self, keep_empty: bool) -> list[CocoImage]:
        """The images to train on; notes those that are left out for want of an object."""
        if keep_empty:
            return list(self.train.images)
        chosen = []
        for image in self.train.images:
            if trainable(self.train.annotations[image.image_id]):
                chosen.append(image)
            else:
                self.findings.left_out("images without an object", str(image.file))
        return chosen

    def prepare_data(self) -> None:
        """Compare the sizes of all images with the annotated ones, on one device, before the training."""
        for data in (self.train, self.val):
            for image in data.images:
                check_image(data, image, self.findings)
        self.findings.check()
        hint = f"; `slideformer check-data detect {self.source}` lists them"
        lines = self.findings.before_training(hint) + ambiguous_line(self.findings, self.orientation)
        for line in lines:
            self.say(line)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, that of label 1 first."""
        return self.train.class_names

    @property
    def train_size(self) -> tuple[int, int]:
        """Height and width in pixels of an image of 4 to 3 that gets the middle one of the sides."""
        side = sorted(self.augment.sides)[len(self.augment.sides) // 2]
        return side, min(4 * side // 3, self.augment.longest_side)

    @property
    def category_ids(self) -> list[int]:
        """Numbers of the classes in the annotations, that of label 1 first."""
        return self.train.category_ids

    @property
    def repeats(self) -> int:
        """How often one image comes in a batch of training, differently augmented; 0 for once."""
        return self.augment.repeats

    def train_images(self) -> Dataset[Any]:
        """Random, augmented images to train on."""
        reader = CocoReader(self.train, self.images_to_train_on, training=True)
        return Images(reader, ToSample(train_transform(self.augment)), self.on_bad_image)

    def val_images(self) -> Dataset[Any]:
        """Images of the hold-out, nothing random."""
        return eval_images(self.val, self.on_bad_image)


def eval_images(data: CocoSet, on_bad_image: OnBadImage) -> Images:
    """All images of a set, by number, nothing random."""
    return Images(CocoReader(data, data.images, training=False), ToSample(eval_transform()), on_bad_image)


def eval_loader(
    data: CocoSet, *, batch_size: int, num_workers: Workers, on_bad_image: OnBadImage
) -> DataLoader[Any]:
    """Loader of all images of a set, in order, nothing random.

    Args:
        data: the set.
        batch_size: images a batch.
        num_workers: as of `ordered_loader`.
        on_bad_image: what to do with an unreadable image.

    Raises:
        UserError: a number is out of range.
    """
    images = eval_images(data, on_bad_image)
    return ordered_loader(images, stack, batch_size=batch_size, num_workers=num_workers)
