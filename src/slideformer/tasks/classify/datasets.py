# SPDX-License-Identifier: Apache-2.0
"""Sources of labelled images behind one interface, and how a batch tells which ones were unreadable."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from slideformer.errors import UserError
from slideformer.tasks.classify import digits, folders
from slideformer.tasks.images import (
    OnBadImage,
    UnreadableImageError,
    image_paths,
    is_readable,
    read_image,
)
from slideformer.tasks.training.batches import Unreadable, parted, refuse_nothing

Transform = Callable[[Image.Image], Tensor]


class Batch(NamedTuple):
    """What a loader gives.

    Attributes:
        images: ``(B, 3, height, width)``.
        targets: ``(B,)``, class numbers.
        unreadable: paths of the images that had to be left out.
        refusal: why the batch must not be used, or nothing. It travels with the batch because an error
            in a process that reads would reach the user as that process's traceback.
    """

    images: Tensor
    targets: Tensor
    unreadable: tuple[str, ...] = ()
    refusal: str = ""

    def check(self) -> Batch:
        """The batch itself, if it may be used."""
        if self.refusal:
            raise UserError(self.refusal)
        return self


class Reader(Protocol):
    """Labelled images by number."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """One image, RGB, and its class."""
        ...

    def name(self, index: int) -> str:
        """What to call one image in a message."""
        ...


class FolderReader:
    """Images anywhere below a folder, whose sub-folders are the classes.

    Timm's own reader takes the innermost folder for the class, and of images JPEG and PNG alone.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        homes = {os.path.realpath(folder / name) for name in names}
        self.images = [
            (path, number)
            for number, name in enumerate(names)
            for path in image_paths(folder / name, others=homes)
        ]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """One image and its class."""
        path, target = self.images[index]
        return read_image(path), target

    def name(self, index: int) -> str:
        """Its path."""
        return self.images[index][0]

    def refuse_unreadable_class(self) -> None:
        """Refuse a class of which no image can be read, before hours of training without it."""
        readable: set[int] = set()
        for path, target in self.images:
            if target not in readable and is_readable(path):
                readable.add(target)
        lost = [path for path, target in self.images if target not in readable]
        if lost:
            raise UserError(
                f"every class must hold an image that can be read, got none beside {lost[0]}; "
                "mend the images or remove the folder"
            )


class DigitsReader:
    """The embedded digits."""

    def __init__(self, split: str) -> None:
        self.images, self.targets = digits.load(split)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """One image and its class."""
        return self.images[index], self.targets[index]

    def name(self, index: int) -> str:
        """Its number."""
        return f"digit {index}"


class Images(Dataset[Any]):
    """Images of a reader, transformed; one that cannot be read comes as `Unreadable`."""

    def __init__(self, reader: Reader, transform: Transform, on_bad_image: OnBadImage) -> None:
        self.reader, self.transform, self.on_bad_image = reader, transform, on_bad_image

    def __len__(self) -> int:
        """How many there are."""
        return len(self.reader)

    def __getitem__(self, index: int) -> tuple[Tensor, int] | Unreadable:
        """One transformed image and its class, or what stands for it."""
        try:
            image, target = self.reader[index]
        except UnreadableImageError as error:
            name = self.reader.name(index)
            return Unreadable.because(name, error, self.on_bad_image)
        return self.transform(image), target


def collate(samples: Sequence[tuple[Tensor, int] | Unreadable]) -> Batch:
    """Stack the readable images of a batch, if any; what is to be said of the others travels with it."""
    good, paths, refused = parted(samples)
    if refused or not good:
        return Batch(torch.empty(0), torch.empty(0), paths, refused)
    images, targets = zip(*good, strict=True)
    return Batch(torch.stack(images), torch.as_tensor(targets), paths)


def collate_to_train(samples: Sequence[tuple[Tensor, int] | Unreadable]) -> Batch:
    """As `collate`, but a batch of nothing is refused."""
    return refuse_nothing(collate(samples))


def open_reader(source: str, split: str, names: Sequence[str]) -> Reader:
    """The reader of a split, ``train`` or ``val``, of a source: ``"digits"`` or a folder."""
    if source == "digits":
        return DigitsReader(split)
    return FolderReader(Path(source) / "train" if split == "train" else hold_out(source), names)


def hold_out(source: str) -> Path:
    """The folder of a source's hold-out: its ``val/``, or itself where it holds the class folders."""
    root = Path(source)
    return root / "val" if (root / "val").is_dir() else root


def hold_out_class_names(source: str) -> list[str]:
    """Names of the classes of the hold-out alone."""
    return digits.CLASS_NAMES if source == "digits" else folders.class_names(hold_out(source))


def source_class_names(source: str) -> list[str]:
    """Names of the classes of ``"digits"`` or of a folder with ``train/`` and ``val/``."""
    return digits.CLASS_NAMES if source == "digits" else folders.shared_class_names(Path(source))
