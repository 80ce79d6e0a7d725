# SPDX-License-Identifier: Apache-2.0
"""Sources that timm reads, as RGB images like those of a folder, whatever their readers give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from timm.data import ImageDataset, IterableImageDataset, create_dataset
from torch import Tensor
from torch.utils.data import IterableDataset

from slideformer.errors import UserError
from slideformer.tasks.classify.datasets import Images, Transform
from slideformer.tasks.images import OnBadImage, UnreadableImageError, decoding, read_image, upright_rgb
from slideformer.tasks.training.batches import Unreadable

# Prefixes of their names.
PREFIXES = ("wds/", "hfds/", "hfids/", "tfds/", "torch/")


@dataclass(frozen=True)
class TimmSource:
    """A source by name.

    Attributes:
        name: with its prefix, such as ``torch/fashion_mnist``.
        root: its folder, where it has one.
        splits: what it calls ``train`` and ``val``.
        num_classes: its labels are from 0 to one less.
        batch_size: images a batch.
        download: whether timm may fetch it.
    """

    name: str
    root: str | None
    splits: Mapping[str, str]
    num_classes: int
    batch_size: int
    download: bool

    def open(self, split: str) -> Any:
        """Timm's data set of ``train`` or ``val``, its images as they are stored."""
        if self.name.lower().startswith("torch/") and self.root is None:
            raise UserError(f"{self.name} must have a folder; pass --data.root DIR")
        name = self.splits[split]
        try:
            return create_dataset(
                self.name,
                root=self.root,
                split=name,
                is_training=split == "train",
                batch_size=self.batch_size,
                download=self.download,
                input_img_mode="",  # as they are stored: timm clips what has more than 8 bits
            )
        # The readers of half a dozen libraries say with exceptions of their own what is not there.
        except Exception as error:
            fetch = "" if self.download else "; --data.download true fetches it, where timm can"
            raise UserError(f"timm cannot open {self.name} (split {name}): {error}{fetch}") from error

    def images(
        self, split: str, transform: Transform, on_bad_image: OnBadImage, num_workers: int
    ) -> Images | TimmStream:
        """The images of ``train`` or ``val``, transformed."""
        dataset = self.open(split)
        if not isinstance(dataset, IterableImageDataset):
            return Images(TimmReader(self, dataset), transform, on_bad_image)
        dataset.set_loader_cfg(num_workers=num_workers)
        return TimmStream(self, dataset, transform, on_bad_image)

    def label(self, target: Any) -> int:
        """A label as a number."""
        try:
            label = int(target)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"images of {self.name} must have a class number each, got {target!r}; use another source"
            ) from error
        if not 0 <= label < self.num_classes:
            raise UserError(
                f"labels of {self.name} must be from 0 to {self.num_classes - 1}, got {label}; "
                f"pass the right --data.num_classes, {label + 1} or more"
            )
        return label


class TimmReader:
    """Images that timm or torchvision reads by number."""

    def __init__(self, source: TimmSource, dataset: Any) -> None:
        self.source, self.dataset = source, dataset
        # Timm's own data set decodes by itself and takes the next image for one that is unreadable.
        self.items = dataset.reader if isinstance(dataset, ImageDataset) else dataset
        if hasattr(dataset, "loader"):  # how torchvision reads the files of a folder
            dataset.loader = str  # gives their paths

    def __len__(self) -> int:
        """How many there are."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """One image and its class."""
        with decoding():  # some readers decode by themselves
            image, target, *_ = self.items[index]
        return as_image(image), self.source.label(target)

    def name(self, index: int) -> str:
        """Its number."""
        return f"image {index} of {self.source.name}"


class TimmStream(IterableDataset[Any]):
    """Images that timm reads in a stream, transformed; one that cannot be read comes as `Unreadable`."""

    def __init__(
        self, source: TimmSource, dataset: Any, transform: Transform, on_bad_image: OnBadImage
    ) -> None:
        self.source, self.dataset, self.transform = source, dataset, transform
        self.on_bad_image = on_bad_image

    def __len__(self) -> int:
        """How many there are on this device."""
        return len(self.dataset)

    def set_epoch(self, count: int) -> None:
        """Tell timm's reader, which shuffles by it, which epoch begins."""
        self.dataset.set_epoch(count)

    def __iter__(self) -> Iterator[tuple[Tensor, int] | Unreadable]:
        """Iterate over transformed images and their classes, or what stands for them."""
        for number, (image, target) in enumerate(self.dataset):
            name = f"image {number} of {self.source.name}"
            try:
                yield self.transform(as_image(image)), self.source.label(target)
            except UnreadableImageError as error:
                yield Unreadable.because(name, error, self.on_bad_image)
            except UserError as error:
                yield Unreadable(name, str(error))


def as_image(image: Any) -> Image.Image:
    """Return as upright RGB an image that a reader of timm gave.

    Args:
        image: of Pillow; its path or bytes; an open file; or an array of 8 bits.

    Raises:
        UnreadableImageError: it cannot be read.
        UserError: it is something else.
    """
    if isinstance(image, Image.Image):
        return upright_rgb(image)
    if isinstance(image, str | Path | bytes):
        return read_image(image)
    if hasattr(image, "read"):
        with image as file:
            return read_image(file)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return Image.fromarray(image.squeeze()).convert("RGB")
    raise UserError(f"a source must give images, got {type(image).__name__}; use another source")
