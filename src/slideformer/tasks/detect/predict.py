# SPDX-License-Identifier: Apache-2.0
"""Prediction by a detector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.transforms.v2 import functional

from slideformer.models.finite import naming_image
from slideformer.runs import Run
from slideformer.tasks.detect.results import binary_masks
from slideformer.tasks.predict import Named, Options, Predictor
from slideformer.tasks.results import Detections, Result


def detector(run: Run, options: Options) -> Predictor:
    """The predictor of a detection run, which looks at one image at a time."""
    device = next(run.model.parameters()).device
    names = run.facts.names()
    ids = run.category_ids or tuple(range(1, len(names) + 1))

    def answer(images: Sequence[Named]) -> list[Result]:
        (row,) = images
        pixels = functional.to_dtype(functional.pil_to_tensor(row.image).to(device), scale=True)
        with score_at_least(run.model, options.score), naming_image(run.name, row.path):
            (output,) = run.model([pixels])
        sure = output["scores"] >= options.score
        found = {name: x[sure].cpu() for name, x in output.items()}
        masks = binary_masks(found)
        return [
            Detections(
                row.path,
                names,
                ids,
                found["boxes"].float().numpy(),
                found["scores"].float().numpy(),
                found["labels"].numpy(),
                None if masks is None else masks.bool().numpy(),
                row.number,
                options.max_drawn,
                **row.shared,
            )
        ]

    return Predictor(1, answer)


@contextmanager
def score_at_least(model: nn.Module, score: float) -> Iterator[None]:
    """Let a detector make no masks of objects with a lower score: each mask is as large as the image.

    Args:
        model: the detector; afterwards it is as it was before.
        score: the lowest.
    """
    heads = [part for part in model.modules() if isinstance(part, RoIHeads)]
    before = [part.score_thresh for part in heads]
    for part in heads:
        # A little less, since heads keep what is strictly above it.
        part.score_thresh = max(part.score_thresh, score - 1e-6)
    try:
        yield
    finally:
        for part, threshold in zip(heads, before, strict=True):
            part.score_thresh = threshold
