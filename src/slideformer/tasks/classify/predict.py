# SPDX-License-Identifier: Apache-2.0
"""Prediction by a classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from slideformer.models.finite import check_rows
from slideformer.runs import PixelTransform, Run
from slideformer.tasks.predict import Named, Options, Predictor
from slideformer.tasks.results import Classification, Result

# Images at a time, and pixels of their inputs, of which a large one has many.
BATCH, PIXELS = 32, 2**24


def classifier(run: Run, options: Options) -> Predictor:
    """The predictor of a classification run."""
    how = run.preprocessing
    assert how is not None  # every classifier has it

    def answer(pixels: Sequence[Tensor], rows: Sequence[Named]) -> list[Result]:
        # On the CPU, since not every device has float64.
        logits = run.model(pixels).float().cpu().double()
        check_rows(run.name, logits, [row.path for row in rows])
        shares: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = list(logits.softmax(1).numpy())
        names = run.class_names or tuple(map(str, range(logits.shape[1])))
        return [
            Classification(row.path, names, share, options.top, **row.shared)
            for row, share in zip(rows, shares, strict=True)
        ]

    usual = min(BATCH, max(1, PIXELS // (how.input_size[1] * how.input_size[2])))
    batch = usual if options.batch_size is None else options.batch_size
    return Predictor(batch, PixelTransform(how), answer)
