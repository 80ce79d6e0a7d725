# SPDX-License-Identifier: Apache-2.0
"""Whether an exported file computes what the model does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn


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


def check_sizes(height: int, width: int) -> tuple[tuple[int, int, int], ...]:
    """Three inputs to check with: the model's own size, a wide and an odd high one, in other batches."""
    return (1, height, width), (2, height * 5 // 4, width * 3 // 2), (3, height * 11 // 8 + 1, width)
