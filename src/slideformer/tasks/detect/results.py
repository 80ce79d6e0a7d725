# SPDX-License-Identifier: Apache-2.0
"""What a detector found, in the form of COCO's results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slideformer.files import whole
from slideformer.tasks.detect import masks
from slideformer.tasks.detect.masks import RunLengths

# From which probability on a pixel belongs to a mask.
MASK_THRESHOLD = 0.5
# COCO's results have a file for each kind, since its tools take the size of an object from the box wherever
# there is one, of a mask, too.
BOXES, MASKS = "detections.json", "segmentations.json"


@dataclass(frozen=True)
class Detections:
    """What was found on one picture.

    Attributes:
        image_id: the picture's number.
        boxes: ``(N, 4)``, left, top, width and height in pixels, float64.
        labels: ``(N,)``, from 1.
        scores: ``(N,)``, 0 to 1.
        masks: of each object; None for a detector without masks.
    """

    image_id: int
    boxes: Tensor
    labels: Tensor
    scores: Tensor
    masks: tuple[RunLengths, ...] | None = None

    def rows(
        self, category_ids: Sequence[int], *, boxes: bool = True, masks: bool = True
    ) -> Iterator[dict[str, Any]]:
        """COCO's results of the picture, the annotations' own category numbers in them.

        Args:
            category_ids: number of each class, that of label 1 first.
            boxes: whether the rows have boxes.
            masks: whether they have masks, if there are any.
        """
        found = zip(self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), strict=True)
        for number, (box, label, score) in enumerate(found):
            row = {"image_id": self.image_id, "category_id": category_ids[label - 1], "score": score}
            if boxes:
                row["bbox"] = box
            if masks and self.masks is not None:
                row["segmentation"] = self.masks[number].to_coco()
            yield row


def found_by(output: Mapping[str, Tensor], image_id: int) -> Detections:
    """What a detector of torchvision's kind gave for one picture.

    Args:
        output: ``boxes`` ``(N, 4)`` left, top, right, bottom; ``labels``; ``scores``; and for a detector with
            masks their probabilities ``masks`` ``(N, 1, height, width)``.
        image_id: number of the picture.
    """
    pixels = binary_masks(output)
    return Detections(
        image_id,
        width_and_height(output["boxes"]),
        output["labels"].cpu(),
        output["scores"].cpu(),
        None if pixels is None else tuple(masks.encode(mask.numpy()) for mask in pixels),
    )


def width_and_height(corners: Tensor) -> Tensor:
    """Left, top, right, bottom as left, top, width, height, in float64, where the differences are exact."""
    boxes = corners.detach().cpu().double()
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)


def binary_masks(output: Mapping[str, Tensor]) -> Tensor | None:
    """Masks ``(N, height, width)`` of 0 and 1, of a detector that has them."""
    if "masks" not in output:
        return None
    return (output["masks"][:, 0] > MASK_THRESHOLD).to(torch.uint8).cpu()


def write_results(found: Iterable[Detections], category_ids: Sequence[int], folder: Path) -> list[Path]:
    """Write COCO's results of many pictures: the boxes and, of a detector that has them, the masks.

    Returns:
        The files.
    """
    rows = list(found)
    kinds = [(BOXES, {"masks": False})]
    if any(detections.masks is not None for detections in rows):
        kinds.append((MASKS, {"boxes": False}))
    for name, options in kinds:
        with whole(folder / name) as unfinished, unfinished.open("w", encoding="utf-8") as file:
            # A row at a time: the text of a large set is larger than what it was made of.
            lines = (
                json.dumps(row) for detections in rows for row in detections.rows(category_ids, **options)
            )
            file.write("[")
            file.writelines(f"{', ' if number else ''}{line}\n" for number, line in enumerate(lines))
            file.write("]\n")
    return [folder / name for name, _ in kinds]
