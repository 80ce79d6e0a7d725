# SPDX-License-Identifier: Apache-2.0
"""Sheets of a detector's training: its first batch, and predictions for the hold-out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from slideformer import viz
from slideformer.runs import Run
from slideformer.tasks.detect import masks
from slideformer.tasks.detect.coco import Annotation
from slideformer.tasks.detect.data import DetectionData
from slideformer.tasks.detect.dataset import read_annotated
from slideformer.tasks.images import UnreadableImageError
from slideformer.tasks.predict import SCORE, predict
from slideformer.tasks.results import Detections
from slideformer.tasks.training.batches import Batch
from slideformer.viz.detections import colour_of, paint_objects
from slideformer.viz.legend import Entry
from slideformer.viz.sheet import Part, Tile, display_scale, pick_evenly

# Images on a sheet, those in a row, and the side of each in pixels.
SHOWN, COLUMNS, SIDE = 8, 4, 320


def draw_batch(batch: Batch, data: DetectionData) -> Image.Image:
    """Draw the images of a batch of training with their boxes, masks and class names.

    Args:
        batch: as the model sees it.
        data: that it is of.
    """
    seen: set[int] = set()
    tiles = []
    for pixels, target in zip(batch.images[:SHOWN], batch.targets, strict=False):
        labels = target["labels"].tolist()
        drawn = target["masks"].cpu().numpy() if "masks" in target else None
        image = to_pil_image(pixels.float().cpu().clamp(0, 1))
        boxes = target["boxes"].float().cpu().numpy()
        tiles.append(
            tile(image, boxes, labels, names(data, labels), drawn, f"{image.width} x {image.height}")
        )
        seen |= set(labels)
    count = len(batch.images)
    shown = f"{count} images" if len(tiles) == count else f"{len(tiles)} of {count} images"
    title = f"first batch of the training, as the model sees it (augmented): {shown}"
    return viz.draw_sheet(title, [Part(tiles)], columns=COLUMNS, legend=legend(data, seen))


def draw_predictions(run: Run, data: DetectionData) -> Image.Image:
    """Draw some images of the hold-out with their annotations and, next to each, with what is detected."""
    seen: set[int] = set()
    tiles = []
    total = len(data.val.images)
    for place in pick_evenly(total, SHOWN):
        row = data.val.images[place]
        try:
            image = read_annotated(row, data.val)
        except UnreadableImageError:
            continue
        truth = data.val.annotations[row.image_id]
        labels = [annotation.label for annotation in truth]
        words = [
            f"{name} (crowd)" if annotation.crowd else name
            for name, annotation in zip(names(data, labels), truth, strict=True)
        ]
        boxes = [annotation.corners for annotation in truth]
        tiles.append(tile(image, boxes, labels, words, decoded(truth), f"{row.file.name}: annotated"))
        (found,) = predict(run, image)
        assert isinstance(found, Detections)  # a readable image, by a detector
        guesses = found.labels.tolist()
        words = [
            f"{name} {100 * score:.0f} %"
            for name, score in zip(names(data, guesses), found.scores.tolist(), strict=True)
        ]
        tiles.append(tile(image, found.boxes, guesses, words, found.masks, "predicted"))
        seen |= {*labels, *guesses}
    title = (
        f"{len(tiles) // 2} of {total} hold-out images, each as annotated and, to the right, "
        f"as predicted (scores of {100 * SCORE:.0f} % and more)"
    )
    return viz.draw_sheet(title, [Part(tiles)], columns=COLUMNS, legend=legend(data, seen))


def tile(
    image: Image.Image, boxes: Any, labels: Sequence[int], words: Sequence[str], drawn: Any, caption: str
) -> Tile:
    """An image with objects, resized to its place on the sheet."""
    scale = display_scale(image.size, SIDE)
    painted = paint_objects(image, boxes, labels, words, drawn, scale=scale)
    return Tile(painted, (f"{caption}, {len(labels)} object{'' if len(labels) == 1 else 's'}",))


def names(data: DetectionData, labels: Sequence[int]) -> list[str]:
    """The class of each object."""
    return [data.class_names[label - 1] for label in labels]


def decoded(truth: Sequence[Annotation]) -> list[Any] | None:
    """The mask of each object; None where one has none."""
    drawn = [masks.decode(annotation.mask) for annotation in truth if annotation.mask is not None]
    return drawn if len(drawn) == len(truth) else None


def legend(data: DetectionData, labels: set[int]) -> list[Entry]:
    """Names and colours of the classes that occur."""
    return [Entry(data.class_names[label - 1], colour_of(label)) for label in sorted(labels)]
