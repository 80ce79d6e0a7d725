# SPDX-License-Identifier: Apache-2.0
"""Sheets of a classifier's training: its first batch, and predictions for the hold-out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from slideformer import viz
from slideformer.runs import Run
from slideformer.tasks.classify.data import ClassificationData
from slideformer.tasks.images import UnreadableImageError
from slideformer.tasks.predict import predict
from slideformer.tasks.results import Classification
from slideformer.tasks.training.batches import Batch, Stream
from slideformer.viz.sheet import Part, Tile, display, pick_evenly

# Images of a batch that are drawn, in rows; side of each in pixels.
SHOWN, COLUMNS, SIDE = 32, 8, 128
# Images of the hold-out that are classified, and how many of them are in memory at a time.
LOOKED_AT, CHUNK = 512, 16
# A class with a share above the smallest by less than this is smoothing, not a part of a mixed image.
SMOOTHING = 1e-4


def draw_batch(batch: Batch, data: ClassificationData) -> Image.Image:
    """Draw images of a batch of training with the names of their classes, of mixed ones with the shares.

    Args:
        batch: as the model sees it: augmented, mixed and normalised; targets are class numbers ``(B,)`` or
            shares ``(B, classes)``.
        data: that it is of.
    """
    how = data.preprocessing
    mean, std = (torch.tensor(x)[:, None, None] for x in (how.mean, how.std))
    names, mixed = data.class_names, batch.targets.ndim == 2
    tiles = []
    for pixels, target in zip(batch.images[:SHOWN].float().cpu(), batch.targets[:SHOWN].cpu(), strict=True):
        image = to_pil_image((pixels * std + mean).clamp(0, 1))
        lines = shares(target, names) if mixed else (names[int(target)],)
        tiles.append(Tile(display(image, SIDE), lines if data.labelled else ()))
    count = len(batch.images)
    shown = f"{count} images" if len(tiles) == count else f"{len(tiles)} of {count} images"
    changes = "augmented and mixed" if mixed else "augmented"
    changes += "" if data.labelled else ", without labels"
    title = f"first batch of the training, as the model sees it ({changes}): {shown}"
    return viz.draw_sheet(title, [Part(tiles)], columns=COLUMNS)


def shares(target: Tensor, names: list[str]) -> tuple[str, ...]:
    """The classes of a mixed image with their shares, as it is trained on, the largest first."""
    largest = target.float().topk(min(2, len(target)))
    least = float(target.min())
    return tuple(
        f"{100 * share:.0f} %: {names[number]}"
        for share, number in zip(largest.values.tolist(), largest.indices.tolist(), strict=True)
        if share > least + SMOOTHING or len(target) == 1
    )


def draw_predictions(run: Run, data: ClassificationData) -> Image.Image:
    """Draw mistakes and right ones among images of the hold-out."""
    images, labels, guesses, confidences = list[Image.Image](), list[int](), list[int](), list[float]()
    subject, samples = held_out(data)
    while chunk := list(islice(samples, CHUNK)):
        for (image, label), result in zip(chunk, predict(run, [image for image, _ in chunk]), strict=True):
            assert isinstance(result, Classification)  # a readable image, by a classifier
            images.append(display(image, SIDE))
            labels.append(int(label))
            guesses.append(int(result.probabilities.argmax()))
            confidences.append(float(result.probabilities.max()))
    truth = labels if data.labelled else None
    return viz.draw_predictions(images, truth, guesses, confidences, data.class_names, subject=subject)


def held_out(data: ClassificationData) -> tuple[str, Iterator[tuple[Any, Any]]]:
    """Readable images from all over the hold-out, of a stream the first ones, and what they are in words."""
    opened = data.opened.open("val")
    place = "the beginning of" if isinstance(opened, Stream) else "all over"
    subject = f"images from {place} the hold-out, which has {len(opened)}"
    reads: Iterator[Callable[[], tuple[Any, Any]]]
    if isinstance(opened, Stream):
        reads = (read for _, read in islice(opened, LOOKED_AT))
    else:
        reads = (partial(opened.__getitem__, number) for number in pick_evenly(len(opened), LOOKED_AT))
    return "hold-out images" if len(opened) <= LOOKED_AT else subject, readable(reads)


def readable(reads: Iterator[Callable[[], tuple[Any, Any]]]) -> Iterator[tuple[Any, Any]]:
    """Images and class numbers, without the images that cannot be read."""
    for read in reads:
        try:
            yield read()
        except UnreadableImageError:
            continue
