# SPDX-License-Identifier: Apache-2.0
"""The images that a prediction is given: files, images of Pillow and arrays, read and prepared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from slideformer.errors import UserError
from slideformer.tasks.images import UnreadableImageError, find_images, read_image, upright_rgb
from slideformer.tasks.training.batches import Batch

Source: TypeAlias = str | Path | Image.Image | NDArray[Any]


def find_sources(images: Sequence[Source]) -> list[Path | Image.Image | NDArray[Any]]:
    """The files that paths, folders and globs name, each once, and images and arrays as they come."""
    found: list[Path | Image.Image | NDArray[Any]] = []
    known = set[Path]()
    for image in images:
        if isinstance(image, (Image.Image, np.ndarray)):
            found.append(image)
        elif isinstance(image, (str, Path)):
            new = [path for path in find_images([str(image)]) if path not in known]
            found += new
            known.update(new)
        else:
            raise UserError(
                "an image must be a path, an image of Pillow or an array, "
                f"got {type(image).__name__}; convert it"
            )
    return found


class Given:
    """The images of a call, by number.

    Args:
        sources: files, images and arrays.

    Attributes:
        paths: of each, or "image 1" and so on for one without a path.
    """

    def __init__(self, sources: Sequence[Path | Image.Image | NDArray[Any]]) -> None:
        self.sources = sources
        self.paths = [
            x if isinstance(x, Path) else Path(f"image {n}") for n, x in enumerate(sources, start=1)
        ]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.sources)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Read one image, upright, and give its number, from 0."""
        return as_image(self.sources[index]), index

    def name(self, index: int) -> str:
        """Return the path of one image."""
        return str(self.paths[index])

    def kept(self, index: int) -> Image.Image | None:
        """An image that is not a file, upright; None for a file, which is read again where it is drawn on."""
        return None if isinstance(self.sources[index], Path) else as_image(self.sources[index])

    def files(self) -> frozenset[Path]:
        """The files, with links resolved."""
        return frozenset(x.resolve() for x in self.sources if isinstance(x, Path))


@dataclass(frozen=True)
class Prepared:
    """Prepares images, and keeps their number and size.

    Attributes:
        prepare: makes pixels of an image.
    """

    prepare: Callable[[Image.Image], Tensor]

    def __call__(self, image: Image.Image, index: int) -> tuple[Tensor, tuple[int, tuple[int, int]]]:
        """Prepare an image."""
        return self.prepare(image), (index, (image.height, image.width))


def stack(samples: Sequence[tuple[Tensor, tuple[int, tuple[int, int]]]]) -> Batch:
    """Make a batch of prepared images with their numbers and sizes; one tensor of images of one size."""
    images = [pixels for pixels, _ in samples]
    equal = len({pixels.shape for pixels in images}) == 1
    return Batch(torch.stack(images) if equal else images, [place for _, place in samples])


class OwnSize:
    """Prepares an image in its own size.

    Args:
        only: height and width that it must have; None for any.
    """

    def __init__(self, only: tuple[int, int] | None) -> None:
        self.only = only

    def __call__(self, image: Image.Image) -> Tensor:
        """Pixels ``(3, height, width)``, uint8."""
        if self.only not in (None, (image.height, image.width)):
            height, width = self.only
            raise UnreadableImageError(
                f"it must be {width} pixels wide and {height} high for this file, got {image.width} x "
                f"{image.height}; resize it, or export the model for any size"
            )
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def as_image(source: Path | Image.Image | NDArray[Any]) -> Image.Image:
    """An upright RGB image."""
    if isinstance(source, Path):
        return read_image(source)
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or not (source.ndim == 2 or (source.ndim == 3 and source.shape[2] == 3)):
            raise UnreadableImageError(
                "an array must be (height, width, 3) or (height, width) of uint8, "
                f"got {source.shape} of {source.dtype}"
            )
        source = Image.fromarray(source)
    return upright_rgb(source)
