# SPDX-License-Identifier: Apache-2.0
"""Sources that timm reads: their images as RGB, as those of a folder are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from timm.data import ImageDataset, IterableImageDataset, create_dataset
from torchvision.datasets import KMNIST, MNIST, FashionMNIST

from slideformer.errors import UserError
from slideformer.tasks.classify.parts import Part, held_out
from slideformer.tasks.images import decoding, read_image, upright_rgb
from slideformer.tasks.training.batches import Stream

# The beginnings of their names: of images by number, and of streams.
NUMBERED, STREAMED = ("torch/", "hfds/"), ("wds/", "hfids/", "tfds/")
# Those of torchvision's whose class names are known without their files.
NAMED = {"torch/mnist": MNIST, "torch/kmnist": KMNIST, "torch/fashion_mnist": FashionMNIST}
# Another way to a source, where torchvision's server cannot be reached.
OFFLINE = {
    "torch/fashion_mnist": "Debian has the same files: apt-get download dataset-fashion-mnist, dpkg -x "
    "dataset-fashion-mnist_*.deb ., and unpack usr/share/datasets/fashion-mnist/*.gz with gunzip into "
    "{root}/FashionMNIST/raw",
}
# Those of torchvision's of two splits; timm takes every name but the first line's for the second.
TWO_SPLITS = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist")
SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "val", "valid", "validation", "eval", "evaluation"),
}


@dataclass(frozen=True, kw_only=True)
class TimmSource:
    """A source by name.

    Attributes:
        name: with its prefix, such as ``torch/fashion_mnist``.
        root: its folder, where it has one.
        splits: what it calls ``train`` and ``val``.
        num_classes: its labels are from 0 to one less.
        batch_size: images a batch.
        num_workers: processes that read.
        download: whether timm may fetch it.
        training: whether it is trained on; if not, there is a model with its classes.
    """

    name: str
    root: str | None
    splits: Mapping[str, str]
    num_classes: int
    batch_size: int
    num_workers: int
    download: bool
    training: bool = True

    def open(self, split: str) -> Any:
        """Timm's data set of ``train`` or ``val``, its images as they are stored."""
        if self.name.lower().startswith("torch/") and self.root is None:
            raise UserError(f"{self.name} must have a folder; set `root`")
        name = self.splits[split]
        created = self.root is not None and not Path(self.root).exists()
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
        # Half a dozen libraries raise their own exceptions for what does not exist.
        except Exception as error:
            if created:
                remove_empty(Path(str(self.root)))
            words = " ".join(str(error).split())
            fetched = self.download or not self.training
            ways = [] if fetched else ["set `download` to true to fetch it, where timm can"]
            if self.name.lower() in OFFLINE:
                ways.append(OFFLINE[self.name.lower()].format(root=self.root))
            raise UserError(
                "; ".join([f"timm cannot open {self.name} (split {name}): {words}", *ways])
            ) from error

    def check(self) -> None:
        """Open both splits.

        Raises:
            UserError: timm cannot open one.
        """
        for split in self.splits:
            self.open(split)

    def read_part(self, fraction: float, split: str) -> Part:
        """The images of ``train``, of which a part is held out as ``val``."""
        return held_out(self.read("train"), fraction, split, self.name)

    def read(self, split: str) -> TimmReader | TimmStream:
        """The images of ``train`` or ``val``."""
        dataset = self.open(split)
        if not isinstance(dataset, IterableImageDataset):
            return TimmReader(self, dataset)
        dataset.set_loader_cfg(num_workers=self.num_workers)
        return TimmStream(self, dataset)

    def pair(self, image: Any, target: Any) -> tuple[Image.Image, int]:
        """An image and its class number, from what a reader of timm gave."""
        return as_image(image), self.label(target)

    def label(self, target: Any) -> int:
        """A label as a number."""
        try:
            label = int(target)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"images of {self.name} must have a class number each, got {target!r}; use another source"
            ) from error
        if not 0 <= label < self.num_classes:
            todo = "give data of the model's classes"
            if self.training:
                todo = f"set `num_classes` to the right number, {label + 1} or more"
            raise UserError(
                f"labels of {self.name} must be from 0 to {self.num_classes - 1}, got {label}; {todo}"
            )
        return label


class TimmReader:
    """Images that timm or torchvision reads by number.

    Args:
        source: what they are of.
        dataset: timm's or torchvision's.
    """

    def __init__(self, source: TimmSource, dataset: Any) -> None:
        self.source, self.dataset = source, dataset
        # Timm's own data set decodes by itself and replaces an unreadable image by the next one.
        self.items = dataset.reader if isinstance(dataset, ImageDataset) else dataset
        if hasattr(dataset, "loader"):  # how torchvision reads the files of a folder
            dataset.loader = str  # gives their paths

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Read one image and its class number."""
        with decoding():  # some readers decode by themselves
            image, target, *_ = self.items[index]
        return self.source.pair(image, target)

    def name(self, index: int) -> str:
        """Return what to call one image."""
        return f"image {index} of {self.source.name}"


class TimmStream(Stream):
    """Images that timm reads one after the other.

    Args:
        source: what they are of.
        dataset: timm's.
    """

    def __init__(self, source: TimmSource, dataset: IterableImageDataset) -> None:
        self.source, self.dataset = source, dataset

    def __len__(self) -> int:
        """Return how many there are on this device."""
        return len(self.dataset)

    def set_epoch(self, epoch: int) -> None:
        """Tell timm's reader, which shuffles by it, the number of the epoch."""
        self.dataset.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[str, Callable[[], tuple[Image.Image, int]]]]:
        """Iterate over names, and functions that read an image and its class number."""
        for number, (image, target) in enumerate(self.dataset):
            yield f"image {number} of {self.source.name}", partial(self.source.pair, image, target)


def as_image(image: Any) -> Image.Image:
    """Convert an image that a reader of timm gave to upright RGB.

    Args:
        image: of Pillow; its path or bytes; an open file; or an array of 8 bits.
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


def class_names_of(name: str) -> tuple[str, ...]:
    """The class names of a source; empty where only its files know them."""
    known = NAMED.get(name.lower())
    return tuple(known.classes) if known is not None else ()


def split_of(name: str, split: str) -> str:
    """The split of a source that is meant: of two of torchvision's ``train`` or ``test``, else as it is.

    Raises:
        UserError: it has no split of that name.
    """
    prefix, _, rest = name.lower().partition("/")
    if prefix != "torch" or rest not in TWO_SPLITS:
        return split
    for meant, words in SPLITS.items():
        if split in words:
            return meant
    known = ", ".join(word for words in SPLITS.values() for word in words)
    raise UserError(f"a split of {name} must be one of {known}, got {split}")


def remove_empty(folder: Path) -> None:
    """Remove a folder and those in it as far as they hold no files, which a download that fails leaves."""
    for path in sorted((folder, *folder.rglob("*")), reverse=True):
        with suppress(OSError):  # not empty, a file, or not there
            path.rmdir()
