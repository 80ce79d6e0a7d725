# SPDX-License-Identifier: Apache-2.0
"""Loaders of annotated pictures, for training and for evaluation."""

from __future__ import annotations

import os
from collections.abc import Sized
from typing import Any, cast

import lightning as L
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from slideformer.console import print_line
from slideformer.dense.detector import find_head
from slideformer.runs.run import Drawn
from slideformer.tasks.detect.check import check_picture, check_sides
from slideformer.tasks.detect.coco import CocoSet, Picture, read_coco, trainable
from slideformer.tasks.detect.dataset import AnnotatedPictures, collate, collate_to_train
from slideformer.tasks.detect.layout import find_split
from slideformer.tasks.detect.transforms import Augment, eval_transform, train_transform
from slideformer.tasks.images import OnBadImage
from slideformer.tasks.orientation import tell_ambiguous
from slideformer.tasks.training.batches import MOST_PIXELS, check_loading
from slideformer.tasks.training.findings import Findings
from slideformer.tasks.training.sampling import EachOnce, SeededLoader, train_sampler


class DetectionData(L.LightningDataModule):
    """Training and hold-out pictures with annotations in COCO's format.

    Args:
        source: a folder like COCO's, with ``annotations/instances_{train,val}*.json`` and ``{train,val}*/``.
        batch_size: pictures a batch and device. Batches of training are equal: what is left over at the end
            of an epoch, other pictures in each, is not used.
        num_workers: processes that read pictures; None for one a core, at most 8.
        augment: random changes of training pictures.
        on_bad_image: ``skip`` leaves an unreadable picture out, tells its path and counts it; ``stop`` stops.
        detector: kind of the detector, which tells whether masks are needed.
        keep_empty: whether pictures without an object are trained on.
        orientation: on which pixels annotations were drawn, ``upright`` ones or those ``stored``, where EXIF
            turns a picture and its size does not show it.
        train_annotations: file of COCO's JSON, where it lies elsewhere.
        val_annotations: file of COCO's JSON, where it lies elsewhere.
        train_images: folder of pictures, where it lies elsewhere.
        val_images: folder of pictures, where it lies elsewhere.
        most_pixels: largest number of pixels of a batch; more is taken for a mistake.

    Attributes:
        train: pictures and annotations to train on.
        val: pictures and annotations held out.
        findings: what was found in them.

    Raises:
        UserError: the source is not there or not fit to train on.
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
        super().__init__()
        side = max(augment.longest_side, *augment.crop_sides)
        check_loading(batch_size, num_workers, side**2, most_pixels)
        self.source, self.batch_size, self.augment = source, batch_size, augment
        self.num_workers = min(8, os.cpu_count() or 1) if num_workers is None else num_workers
        self.on_bad_image, self.orientation = on_bad_image, orientation
        self.findings = Findings()
        splits = (
            find_split(source, "train", train_annotations, train_images),
            find_split(source, "val", val_annotations, val_images),
        )
        self.train, self.val = (
            read_coco(split, self.findings, with_masks=find_head(detector).masks, drawn=orientation)
            for split in splits
        )
        check_sides(self.train, self.val, self.findings)
        self.findings.refuse()
        self.train_pictures = self.chosen(keep_empty)

    def chosen(self, keep_empty: bool) -> list[Picture]:
        """The pictures to train on, of which some show an object."""
        with_objects = [
            picture for picture in self.train.pictures if trainable(self.train.annotations[picture.image_id])
        ]
        if keep_empty:
            return list(self.train.pictures)
        kept = {picture.image_id for picture in with_objects}
        for picture in self.train.pictures:
            if picture.image_id not in kept:
                self.findings.left_out("pictures without an object", str(picture.file))
        return with_objects

    def prepare_data(self) -> None:
        """Compare the sizes of all pictures with the annotated ones, on one device, before the training."""
        for data in (self.train, self.val):
            for picture in data.pictures:
                check_picture(data, picture, self.findings)
        self.findings.refuse()
        for line in self.findings.before_training(
            f"; `slideformer check-data detect {self.source}` tells which"
        ):
            print_line(line)
        tell_ambiguous(self.findings, self.orientation)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, that of label 1 first."""
        return self.train.class_names

    @property
    def label_names(self) -> list[str]:
        """Names of the classes, that of label 1 first."""
        return self.class_names

    @property
    def category_ids(self) -> list[int]:
        """The annotations' own numbers of the classes, that of label 1 first."""
        return self.train.category_ids

    @property
    def num_classes(self) -> int:
        """How many classes there are, the background not counted."""
        return len(self.class_names)

    @property
    def evaluable(self) -> bool:
        """Whether ``slideformer evaluate`` reads the source."""
        return True

    def train_dataloader(self) -> DataLoader[Any]:
        """Random, augmented batches of equal size."""
        pictures = AnnotatedPictures(
            self.train, self.train_pictures, train_transform(self.augment), self.on_bad_image, training=True
        )
        sampler = train_sampler(pictures, self.augment.repeats, *self.place())
        return SeededLoader(
            pictures,
            self.batch_size,
            sampler=sampler,
            # Equal batches, unless the pictures of a device do not make one.
            drop_last=len(sampler) >= self.batch_size,
            num_workers=self.num_workers,
            collate_fn=collate_to_train,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """The hold-out, in order."""
        return eval_loader(
            self.val,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            on_bad_image=self.on_bad_image,
            share=self.place(),
        )

    def place(self) -> tuple[int, int]:
        """Number of devices, and which of them this is."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)


def eval_loader(
    data: CocoSet,
    *,
    batch_size: int,
    num_workers: int,
    on_bad_image: OnBadImage,
    share: tuple[int, int] = (1, 0),
) -> DataLoader[Any]:
    """Loader of all pictures of a set, in order, nothing random.

    Args:
        data: the set.
        batch_size: pictures a batch.
        num_workers: processes that read; 0 reads in this one.
        on_bad_image: what to do with an unreadable picture.
        share: number of devices among which the pictures are shared out, and which of them this is.
    """
    pictures = AnnotatedPictures(data, data.pictures, eval_transform(), on_bad_image, training=False)
    sampler: DistributedSampler[Any] = EachOnce(cast("Dataset[Any]", cast("Sized", pictures)), *share)
    return DataLoader(pictures, batch_size, sampler=sampler, num_workers=num_workers, collate_fn=collate)
