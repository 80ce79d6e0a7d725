# SPDX-License-Identifier: Apache-2.0
"""Comparing the detections of an exported file with those of its model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from slideformer.deploy.job import Session
from slideformer.errors import UserError
from slideformer.tasks.detect.results import MASK_THRESHOLD

# Boxes match whose sides differ by this number of pixels at most.
SAME_PLACE = 0.1
# The differences that single precision may cause: of a side in pixels, and of a score.
BOX, SCORE = 1e-2, 1e-4
# The least overlap of two masks, intersection over union.
OVERLAP = 0.99
# The objects that may be missing, additional or have another mask, as a share of the model's: of two that
# overlap and whose scores are equal but for rounding, either may be kept, which is one missing and one
# additional; a box that ends at a pixel's edge but for rounding moves a small mask by one.
UNMATCHED = 0.05


@dataclass(frozen=True)
class DetectionDifference:
    """The difference of file and model in the detections of one image.

    Attributes:
        height: of the image, in pixels.
        width: of the image, in pixels.
        detections: that the model finds.
        unmatched: of these, and of the file's, those without a match.
        box: largest difference of a side of two that match, in pixels.
        score: largest difference of their scores.
        mask: smallest overlap of their masks, intersection over union; None without masks.
        moved: matches whose masks overlap by less than they must.
    """

    height: int
    width: int
    detections: int
    unmatched: int
    box: float
    score: float
    mask: float | None = None
    moved: int = 0


@torch.inference_mode()
def compare_images(
    session: Session, detector: nn.Module, images: Iterable[Tensor]
) -> list[DetectionDifference]:
    """Compare file and model in images ``(1, 3, height, width)`` of any sizes.

    Raises:
        UserError: the file gives other outputs than a detector, or an answer of the model is not finite.
    """
    rows = []
    for image in images:
        height, width = image.shape[-2:]
        (answer,) = detector([image[0]])
        wanted = [answer[name] for name in ("boxes", "scores", "labels", "masks") if name in answer]
        found = pasted(checked(session(image), len(wanted)), (height, width))
        rows.append(compare_detections(height, width, found, wanted))
    return rows


def checked(found: Sequence[Tensor], count: int) -> Sequence[Tensor]:
    """Check that outputs are so many, and those of one number of objects."""
    shapes = [tuple(x.shape) for x in found]
    objects = shapes[0][:1] if shapes else ()
    if [shape[:1] for shape in shapes] != [objects] * count or [len(shape) for shape in shapes[:3]] != [
        2,
        1,
        1,
    ]:
        outputs = "boxes, scores, labels and masks" if count > 3 else "boxes, scores and labels"
        raise UserError(f"the file must give {outputs}, got outputs of shapes {shapes}; export it again")
    return found


def pasted(found: Sequence[Tensor], size: tuple[int, int]) -> Sequence[Tensor]:
    """Outputs with masks ``(N, 1, height, width)`` in place of those in their boxes."""
    if len(found) == 3:
        return found
    boxes, scores, labels, masks = found
    return boxes, scores, labels, paste_masks_in_image(masks[:, None], boxes, size)


def compare_detections(
    height: int, width: int, found: Sequence[Tensor], wanted: Sequence[Tensor]
) -> DetectionDifference:
    """Compare boxes ``(N, 4)``, scores and labels ``(N,)``, and masks ``(N, 1, height, width)`` if any."""
    apart = (found[0][:, None] - wanted[0]).abs().amax(-1)  # (found, wanted)
    apart[found[2][:, None] != wanted[2]] = torch.inf
    alone = (~(apart <= SAME_PLACE)).all(1).sum() + (~(apart <= SAME_PLACE)).all(0).sum()
    first, second = (apart <= SAME_PLACE).nonzero(as_tuple=True)
    scores = (found[1][first] - wanted[1][second]).abs()
    box, score = (float(x.max()) if len(x) else 0.0 for x in (apart[first, second], scores))
    row = DetectionDifference(height, width, len(wanted[1]), int(alone), box, score)
    if len(wanted) == 3:
        return row
    overlaps = [overlap(found[3][i], wanted[3][j]) for i, j in zip(first, second, strict=True)]
    moved = sum(not x >= OVERLAP for x in overlaps)
    return replace(row, mask=min(overlaps, default=1.0), moved=moved)


def overlap(first: Tensor, second: Tensor) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    one, other = first > MASK_THRESHOLD, second > MASK_THRESHOLD
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def detection_lines(rows: Sequence[DetectionDifference]) -> list[str]:
    """A table of the differences, a line an image."""
    if not rows:
        return []
    masks = any(row.mask is not None for row in rows)
    heads = f"{'detections':>12}{'unmatched':>11}{'box px':>10}{'score':>10}{'mask IoU':>10}"
    lines = [f"{'height x width':<16}{heads if masks else heads[:-10]}"]
    for row in rows:
        size = f"{row.height} x {row.width}"
        numbers = f"{row.detections:>12}{row.unmatched:>11}{row.box:>10.1e}{row.score:>10.1e}"
        lines.append(f"{size:<16}{numbers}" + ("" if row.mask is None else f"{row.mask:>10.4f}"))
    if not any(row.detections for row in rows):
        lines.append("the model finds nothing in these images; compare on others with `images`")
    return lines


def summary(rows: Sequence[DetectionDifference]) -> str:
    """All images in a line."""
    count = sum(row.detections for row in rows)
    words = [
        f"{len(rows)} images",
        f"{count} detections",
        f"{sum(row.unmatched for row in rows)} unmatched",
        f"boxes to {max(row.box for row in rows):.1e} px",
        f"scores to {max(row.score for row in rows):.1e}",
    ]
    overlaps = [row.mask for row in rows if row.mask is not None]
    if overlaps:
        words.append(
            f"lowest mask IoU {min(overlaps):.4f} ({sum(row.moved for row in rows)} below {OVERLAP})"
        )
    return ", ".join(words)


def detection_fault(rows: Sequence[DetectionDifference]) -> str | None:
    """Why a file does not pass, as a sentence; None where it does."""
    others = sum(row.unmatched + row.moved for row in rows)
    count = sum(row.detections for row in rows)
    for row in rows:
        # Not a number compares as false with everything: ask for what must hold.
        if not (row.score <= SCORE and row.box <= BOX):
            return (
                f"the exported file must agree with the model to {SCORE:.0e} in scores and {BOX:.0e} pixels "
                f"in boxes, got {row.score:.2e} and {row.box:.2e} at {row.height} x {row.width}"
            )
    if not others <= UNMATCHED * count:
        return (
            f"the exported file must find the {count} objects that the model finds, got {others} missing, "
            "additional or with another mask"
        )
    return None
