# SPDX-License-Identifier: Apache-2.0
"""Pictures as the inputs that exported files are checked with and fitted to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from slideformer.errors import UserError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

# What int8 is fitted to; more make no difference.
CALIBRATION = 128
# As many as the largest batch that files are checked with.
CHECKED = 3
DIGITS = "digits"


def pictures(patterns: Sequence[str], most: int | None = None) -> list[Image.Image]:
    """The pictures that files, folders and globs name, or ``digits``; without any, photographs of libraries.

    Args:
        patterns: as they were typed.
        most: of them, evenly spread; None for all.

    Raises:
        UserError: none is there, or one cannot be read.
    """
    from slideformer.tasks.pictures import UnreadableImageError, find_images, read_image

    if not patterns:
        return bundled()
    if list(patterns) == [DIGITS]:
        from slideformer.tasks.classify import digits

        return spread(digits.load("train")[0], most)
    read = []
    for path in spread(find_images(patterns), most):
        try:
            read.append(read_image(path))
        except UnreadableImageError as error:
            raise UserError(
                f"an image must be complete and readable, got {path} ({error.reason}); repair or remove it"
            ) from error
    return read


def spread(things: Sequence[Any], most: int | None) -> list[Any]:
    """So many of some things at most, evenly spread: classes often lie one after another."""
    if most is None or len(things) <= most:
        return list(things)
    return [things[number * len(things) // most] for number in range(most)]


def bundled() -> list[Image.Image]:
    """Photographs that scikit-image and scikit-learn ship.

    Raises:
        UserError: one of the two is not installed.
    """
    from slideformer.tasks.scenes.photographs import load_photographs

    try:
        return [*load_photographs("val"), *load_photographs("train")]
    except UserError as error:
        raise UserError(
            "pictures must be given, since scikit-image and scikit-learn, which ship some, are not both "
            "installed; name some with --pictures"
        ) from error


def stretched(images: Sequence[Image.Image], facts: Mapping[str, Any], size: tuple[int, int, int]) -> Tensor:
    """Pictures as a batch ``(B, 3, height, width)``, prepared as the model of these facts wants it.

    Args:
        images: taken in turn, from the first one again where the batch is larger.
        facts: with ``mean`` and ``std``; without, the model takes pixels from 0 to 1.
        size: batch, height and width.
    """
    import torch
    from PIL import Image
    from torchvision.transforms.v2.functional import pil_to_tensor

    batch, height, width = size
    chosen = islice(cycle(images), batch)
    resized = [image.resize((width, height), Image.Resampling.BICUBIC) for image in chosen]
    pixels = torch.stack([pil_to_tensor(image) for image in resized]).float() / 255
    if "mean" not in facts:
        return pixels
    mean, std = (torch.tensor(facts[name])[:, None, None] for name in ("mean", "std"))
    return (pixels - mean) / std


def prepared(
    images: Sequence[Image.Image], facts: Mapping[str, Any], size: tuple[int, int, int]
) -> list[Tensor]:
    """Each picture as an input ``(1, 3, height, width)``, a classifier's cut as in evaluation.

    Args:
        images: as they were read.
        facts: of the model.
        size: channels, height and width.
    """
    if "mean" not in facts:
        return [stretched([image], facts, (1, *size[1:])) for image in images]
    from slideformer.models.preprocessing import EvalTransform, read_preprocessing

    transform = EvalTransform(read_preprocessing({**facts, "input_size": size}, "the model"))
    return [transform(image)[None] for image in images]
