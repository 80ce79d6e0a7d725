# SPDX-License-Identifier: Apache-2.0
"""Classes of every pixel of pictures that nobody has labelled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from slideformer.errors import UserError
from slideformer.files import whole
from slideformer.models.dense.saved import DenseInfo
from slideformer.models.dense.sliding import Progress, Sliding
from slideformer.models.finite import naming_image
from slideformer.tasks.pictures import OnBadImage, UnreadableImageError, read_image, refusal
from slideformer.tasks.segment.augment import fitted, resize
from slideformer.tasks.segment.evaluate import segment


@dataclass(frozen=True)
class Segmentation:
    """What is seen in one picture.

    Attributes:
        path: of the picture.
        shares: name of each class that is there, and its share of the pixels, the largest first.
        labels: ``(height, width)``, 8-bit class numbers of the upright picture; None if it was not read.
        image: ``(height, width, 3)``, the picture itself, 8-bit RGB; None likewise.
        error: why it could not be read, or None.
    """

    path: str
    shares: tuple[tuple[str, float], ...] = ()
    labels: NDArray[np.uint8] | None = field(default=None, repr=False)
    image: NDArray[np.uint8] | None = field(default=None, repr=False)
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Path and shares, or the error, as plain values, for a line of JSON."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        return {"path": self.path, "classes": dict(self.shares)}


def predict(
    model: nn.Module,
    info: DenseInfo,
    paths: Sequence[Path],
    *,
    sliding: Sliding | None = None,
    on_bad_image: OnBadImage = "skip",
    progress: Progress | None = None,
) -> Iterator[Segmentation]:
    """Segment pictures, one after another, each at the size at which the model was evaluated.

    Args:
        model: in evaluation mode.
        info: what was saved with it.
        paths: of the pictures.
        sliding: windows, for pictures that are too large for memory; None for whole pictures.
        on_bad_image: ``skip`` gives a result that says what is wrong; ``stop`` raises it.
        progress: called after each window of a picture with the number done and of all.

    Raises:
        UserError: a picture cannot be read and ``on_bad_image`` is ``stop``, or an answer is not finite.
    """
    classes = info.blueprint.num_classes
    names = info.label_names if info.label_names else tuple(map(str, range(classes)))
    for path in paths:
        try:
            image = np.array(read_image(path))
        except UnreadableImageError as error:
            if on_bad_image == "stop":
                raise UserError(refusal(str(path), error)) from error
            yield Segmentation(str(path), error=error.reason)
            continue
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        size = fitted(image.shape[:2], info.extra.get("short_side"))
        shown = pixels if size == image.shape[:2] else resize(pixels, size)
        shown = shown if sliding is not None else shown.float() / 255
        with naming_image(model, path):
            found = segment(model, shown, image.shape[:2], sliding=sliding, progress=progress)
        labels = found.numpy().astype(np.uint8)
        counts = np.bincount(labels.ravel(), minlength=classes) / labels.size
        order = np.argsort(-counts, kind="stable")
        shares = tuple((names[n], float(counts[n])) for n in order if counts[n])
        yield Segmentation(str(path), shares, labels, image)


def save_labels(labels: NDArray[np.uint8], colours: Sequence[Sequence[int]], file: str | Path) -> None:
    """Write class numbers as a palette PNG, which shows colours and reads as numbers.

    Args:
        labels: ``(height, width)``.
        colours: red, green and blue of each class, from 0 to 255.
        file: the PNG.
    """
    image = Image.fromarray(labels)
    image.putpalette([value for colour in colours for value in colour])
    with whole(file) as unfinished:
        image.save(unfinished, format="PNG")
