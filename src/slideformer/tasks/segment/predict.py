# SPDX-License-Identifier: Apache-2.0
"""Prediction by a segmenter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from slideformer.models.finite import naming_image
from slideformer.runs import Run
from slideformer.tasks.given import OwnSize
from slideformer.tasks.predict import Named, Options, Predictor
from slideformer.tasks.results import Result, Segmentation
from slideformer.tasks.segment.augment import fitted, resize
from slideformer.tasks.segment.evaluate import check_batch, segment


def segmenter(run: Run, options: Options) -> Predictor:
    """The predictor of a segmentation run: one image at a time, at the size of its evaluation."""
    check_batch(options.batch_size)
    names = run.facts.names()

    def answer(pixels: Sequence[Tensor], rows: Sequence[Named]) -> list[Result]:
        (row,), (image,) = rows, pixels
        with naming_image(run.name, row.path):
            labels = segment(run.model, image, row.size, sliding=options.sliding, progress=options.progress)
        return [Segmentation(row.path, names, labels.numpy().astype(np.uint8), **row.shared)]

    return Predictor(1, Shown(run), answer)


class Shown:
    """Prepares an image at the size of its run's evaluation.

    Args:
        run: that looks at it.
    """

    def __init__(self, run: Run) -> None:
        self.own_size, self.short_side = OwnSize(run.only_size), run.short_side

    def __call__(self, image: Image.Image) -> Tensor:
        """Pixels ``(3, height, width)``, uint8."""
        pixels = self.own_size(image)
        size = fitted(pixels.shape[-2:], self.short_side)
        return pixels if size == tuple(pixels.shape[-2:]) else resize(pixels, size)
