# SPDX-License-Identifier: Apache-2.0
"""Detections as COCO's results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slideformer.files import atomic_write
from slideformer.tasks.detect import masks
from slideformer.tasks.detect.masks import RunLengths
from slideformer.tasks.results import Detections

# A pixel of a higher probability belongs to a mask.
MASK_THRESHOLD = 0.5
# A file for each kind: COCO's tools take the size of an object from its box, even where masks are compared.
BOXES, MASKS = "detections.json", "segmentations.json"


@dataclass(frozen=True)
class CocoResult:
    """The detections of one image, as COCO has them.

    Attributes:
        image_id: number of the image.
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
        """COCO's results of the image, with the annotations' own category numbers.

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


def coco_result(found: Detections) -> CocoResult:
    """The detections of an image, as COCO has them."""
    return CocoResult(
        found.image_id,
        width_and_height(torch.from_numpy(found.boxes)),
        torch.from_numpy(found.labels),
        torch.from_numpy(found.scores),
        None if found.masks is None else tuple(masks.encode(mask) for mask in found.masks),
    )


def coco_rows(found: Detections) -> list[dict[str, Any]]:
    """COCO's results of an image as plain values."""
    return list(coco_result(found).rows(found.category_ids))


def width_and_height(corners: Tensor) -> Tensor:
    """Convert xyxy to xywh, in float64, where the differences are exact."""
    boxes = corners.detach().cpu().double()
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)


def binary_masks(output: Mapping[str, Tensor]) -> Tensor | None:
    """Threshold a detector's masks, if it has any, unless they are bool: ``(N, height, width)``, 0 and 1."""
    if "masks" not in output:
        return None
    masks = output["masks"][:, 0]
    return (masks if masks.dtype == torch.bool else masks > MASK_THRESHOLD).view(torch.uint8).cpu()


def write_results(found: Iterable[CocoResult], category_ids: Sequence[int], folder: Path) -> list[Path]:
    """Write COCO's results of many images: the boxes and, of a detector that has them, the masks.

    Returns:
        The files.
    """
    rows = list(found)
    kinds = [(BOXES, {"masks": False})]
    if any(row.masks is not None for row in rows):
        kinds.append((MASKS, {"boxes": False}))
    for name, options in kinds:
        with atomic_write(folder / name) as unfinished, unfinished.open("w", encoding="utf-8") as file:
            # Row by row: the text of a large set is larger than the results themselves.
            lines = (json.dumps(row) for result in rows for row in result.rows(category_ids, **options))
            file.write("[")
            file.writelines(f"{', ' if number else ''}{line}\n" for number, line in enumerate(lines))
            file.write("]\n")
    return [folder / name for name, _ in kinds]
