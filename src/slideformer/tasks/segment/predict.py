# SPDX-License-Identifier: Apache-2.0
"""Prediction by a segmenter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from slideformer.models.finite import naming_image
from slideformer.runs import Run
from slideformer.tasks.predict import Named, Options, Predictor
from slideformer.tasks.results import Result, Segmentation
from slideformer.tasks.segment.augment import fitted, resize
from slideformer.tasks.segment.evaluate import segment


def segmenter(run: Run, options: Options) -> Predictor:
    """The predictor of a segmentation run: one image at a time, at the size of its evaluation."""
    names = run.facts.names()

    def answer(images: Sequence[Named]) -> list[Result]:
        (row,) = images
        pixels = torch.from_numpy(np.array(row.image)).permute(2, 0, 1)
        own = (row.image.height, row.image.width)
        size = fitted(own, run.short_side)
        shown = pixels if size == own else resize(pixels, size)
        # Windows are converted one by one, to save memory.
        shown = shown if options.sliding is not None else shown.float() / 255
        with naming_image(run.name, row.path):
            labels = segment(run.model, shown, own, sliding=options.sliding, progress=options.progress)
        return [Segmentation(row.path, names, labels.numpy().astype(np.uint8), **row.shared)]

    return Predictor(1, answer)
