# SPDX-License-Identifier: Apache-2.0
"""Prediction by a detector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads

from slideformer.models.finite import naming_image
from slideformer.runs import Run
from slideformer.runs.exported import Exported
from slideformer.tasks.detect.results import binary_masks
from slideformer.tasks.given import OwnSize
from slideformer.tasks.predict import Named, Options, Predictor
from slideformer.tasks.results import Detections, Result


def detector(run: Run, options: Options) -> Predictor:
    """The predictor of a detection run."""
    names = run.facts.names()
    ids = run.category_ids or tuple(range(1, len(names) + 1))

    def answer(pixels: Sequence[Tensor], rows: Sequence[Named]) -> list[Result]:
        paths = ", ".join(row.path for row in rows)
        with score_at_least(run.model, options.score), naming_image(run.name, paths):
            outputs = run.model(list(pixels))
        return [result(row, output) for row, output in zip(rows, outputs, strict=True)]

    def result(row: Named, output: Mapping[str, Tensor]) -> Result:
        sure = output["scores"] >= options.score
        found = {name: x[sure].cpu() for name, x in output.items()}
        masks = binary_masks(found)
        return Detections(
            row.path,
            names,
            ids,
            found["boxes"].float().numpy(),
            found["scores"].float().numpy(),
            found["labels"].numpy(),
            None if masks is None else masks.view(torch.bool).numpy(),
            row.number,
            max_drawn=options.max_drawn,
            **row.shared,
        )

    batch = 1 if options.batch_size is None else options.batch_size
    return Predictor(batch, OwnSize(run.only_size), answer)


@contextmanager
def score_at_least(model: nn.Module, score: float) -> Iterator[None]:
    """Let a detector make no masks of objects with a lower score: each mask is as large as the image.

    Args:
        model: the detector; afterwards it is as it was before.
        score: the lowest.
    """
    heads = [part for part in model.modules() if isinstance(part, (RoIHeads, Exported))]
    before = [part.score_thresh for part in heads]
    for part in heads:
        # A little less, since they keep what is strictly above it.
        part.score_thresh = max(part.score_thresh, score - 1e-6)
    try:
        yield
    finally:
        for part, threshold in zip(heads, before, strict=True):
            part.score_thresh = threshold
