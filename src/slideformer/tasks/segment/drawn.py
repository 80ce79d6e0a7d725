# SPDX-License-Identifier: Apache-2.0
"""Sheets of a segmenter's training: its first batch, and predictions for the hold-out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from slideformer import viz
from slideformer.runs import Run
from slideformer.tasks.images import UnreadableImageError
from slideformer.tasks.predict import predict
from slideformer.tasks.results import Segmentation, palette
from slideformer.tasks.segment.data import SegmentationData
from slideformer.tasks.segment.labels import IGNORED, read_pair
from slideformer.tasks.training.batches import Batch
from slideformer.viz.legend import Entry
from slideformer.viz.segmentation import class_entry, overlay
from slideformer.viz.sheet import Part, Tile, display, pick_evenly

# Images on a sheet, those in a row, and the side of each in pixels.
SHOWN, COLUMNS, SIDE = 8, 4, 320


def draw_batch(batch: Batch, data: SegmentationData) -> Image.Image:
    """Draw the crops of a batch of training with their labels in colour, as they are after augmentation.

    Args:
        batch: as the model sees it.
        data: that it is of.
    """
    names, seen, tiles = data.class_names, set[int](), []
    for pixels, target in zip(batch.images[:SHOWN], batch.targets[:SHOWN], strict=True):
        labels = target.cpu().numpy()
        tiles.append(tile(to_pil_image(pixels.float().cpu().clamp(0, 1)), labels, names, ()))
        seen |= set(np.unique(labels).tolist())
    count = len(batch.images)
    shown = f"{count} crops" if len(tiles) == count else f"{len(tiles)} of {count} crops"
    title = f"first batch of the training, as the model sees it (augmented): {shown}"
    return viz.draw_sheet(title, [Part(tiles)], columns=COLUMNS, legend=legend(names, seen))


def draw_predictions(run: Run, data: SegmentationData) -> Image.Image:
    """Draw some images of the hold-out with their labels and, next to each, with the predicted ones."""
    names, seen, tiles = data.class_names, set[int](), list[Tile]()
    pairs = data.splits["val"].pairs
    for place in pick_evenly(len(pairs), SHOWN):
        try:
            labelled = read_pair(pairs[place], data.opened)
        except UnreadableImageError:
            continue
        (found,) = predict(run, labelled.image)
        assert isinstance(found, Segmentation)  # a readable image, by a segmenter
        counted = labelled.labels != IGNORED
        right = (
            f"{100 * (found.label_map == labelled.labels)[counted].mean():.1f} %" if counted.any() else "-"
        )
        caption = f"{pairs[place].image.name}: labelled"
        tiles.append(tile(labelled.image, labelled.labels, names, (caption,)))
        tiles.append(
            tile(labelled.image, found.label_map, names, (f"predicted, {right} of the pixels right",))
        )
        seen |= {*np.unique(labelled.labels).tolist(), *np.unique(found.label_map).tolist()}
    title = (
        f"{len(tiles) // 2} of {len(pairs)} hold-out images, each as labelled and, to the right, as predicted"
    )
    return viz.draw_sheet(title, [Part(tiles)], columns=COLUMNS, legend=legend(names, seen))


def tile(image: Image.Image, labels: Any, names: Sequence[str], lines: tuple[str, ...]) -> Tile:
    """An image with its classes in colour, resized to its place on the sheet."""
    painted = overlay(image, labels, palette(names), ignored=IGNORED)
    return Tile(display(Image.fromarray(painted), SIDE), lines)


def legend(names: Sequence[str], numbers: set[int]) -> list[Entry]:
    """Names and colours of the classes that occur, and what stripes mean where there are some."""
    colours = palette(names)
    entries = [class_entry(names[number], colours[number]) for number in sorted(numbers - {IGNORED})]
    stripes = [Entry("striped: no label", "#808080")] if IGNORED in numbers else []
    return [*stripes, *entries]
