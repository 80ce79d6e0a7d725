# SPDX-License-Identifier: Apache-2.0
"""Whether an exported file computes what the model does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Difference:
    """How far file and model are apart on one input.

    Attributes:
        batch: images.
        height: of the images, in pixels.
        width: of the images, in pixels.
        largest: largest difference of a logit; not a number where either is.
        mean: mean difference.
    """

    batch: int
    height: int
    width: int
    largest: float
    mean: float


def verify_onnx(
    file: str | Path, model: nn.Module, *, sizes: Sequence[tuple[int, int, int]], channels: int = 3
) -> list[Difference]:
    """Run an ONNX file in ONNX Runtime beside the PyTorch model, on random images of several sizes.

    Args:
        file: the exported model.
        model: what it was exported from, in evaluation mode.
        sizes: batch, height and width of each input.
        channels: of an image.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (name,) = (entry.name for entry in session.get_inputs())
    generator = torch.Generator().manual_seed(0)
    rows = []
    for batch, height, width in sizes:
        images = torch.randn(batch, channels, height, width, generator=generator)
        with torch.inference_mode():
            wanted = model(images)
        (found,) = session.run(None, {name: images.numpy()})
        difference = (torch.from_numpy(found) - wanted).abs()
        rows.append(Difference(batch, height, width, float(difference.max()), float(difference.mean())))
    return rows


@dataclass(frozen=True)
class DetectionDifference:
    """How far file and model are apart in what they find in one picture.

    Attributes:
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        detections: that the model finds.
        unmatched: of these, and of the file's, without one of the other's in the same place.
        box: largest difference of a side of two that match, in pixels.
        score: largest difference of their scores.
    """

    height: int
    width: int
    detections: int
    unmatched: int
    box: float
    score: float


# Two boxes whose sides are no further apart, in pixels, are one.
SAME_PLACE = 0.1


def verify_detector(
    file: str | Path, graph: nn.Module, *, sizes: Sequence[tuple[int, int]]
) -> list[DetectionDifference]:
    """Run a detector's ONNX file in ONNX Runtime beside PyTorch, on random pictures of several sizes.

    Args:
        file: the exported detector.
        graph: what it was exported from, in evaluation mode.
        sizes: height and width of each picture.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (name,) = (entry.name for entry in session.get_inputs())
    generator = torch.Generator().manual_seed(0)
    rows = []
    for height, width in sizes:
        picture = torch.rand(1, 3, height, width, generator=generator)
        with torch.inference_mode():
            wanted = graph(picture)
        found = [torch.from_numpy(x) for x in session.run(None, {name: picture.numpy()})]
        rows.append(compare_detections(height, width, found, wanted))
    return rows


def compare_detections(
    height: int, width: int, found: Sequence[Tensor], wanted: Sequence[Tensor]
) -> DetectionDifference:
    """What differs between two sets of boxes ``(N, 4)``, scores ``(N,)`` and labels ``(N,)``."""
    apart = (found[0][:, None] - wanted[0]).abs().amax(-1)  # (found, wanted)
    apart[found[2][:, None] != wanted[2]] = torch.inf
    alone = (~(apart <= SAME_PLACE)).all(1).sum() + (~(apart <= SAME_PLACE)).all(0).sum()
    first, second = (apart <= SAME_PLACE).nonzero(as_tuple=True)
    scores = (found[1][first] - wanted[1][second]).abs()
    largest = [float(x.max()) if len(x) else 0.0 for x in (apart[first, second], scores)]
    return DetectionDifference(height, width, len(wanted[1]), int(alone), *largest)


def check_sizes(height: int, width: int) -> tuple[tuple[int, int, int], ...]:
    """Three inputs to check with: the model's own size, a wide and an odd high one, in other batches."""
    return (1, height, width), (2, height * 5 // 4, width * 3 // 2), (3, height * 11 // 8 + 1, width)
