# SPDX-License-Identifier: Apache-2.0
"""Classifiers: the likeliest classes of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slideformer_runtime.answers import Class, Found
from slideformer_runtime.facts import Facts
from slideformer_runtime.prepare import prepared
from slideformer_runtime.tasks.task import Options, Outputs, Task

BATCH = 8


def prepare(picture: Image.Image, facts: Facts) -> NDArray[np.float32]:
    """The picture as the model was trained on: ``(3, height, width)``."""
    assert facts.preprocessing is not None  # of every classifier, since its file was read
    return prepared(picture, facts.preprocessing)


def answers(outputs: Outputs, facts: Facts, options: Options) -> list[Found]:
    """The likeliest classes of each picture, from logits ``(B, classes)``."""
    logits = np.asarray(outputs[0], dtype=np.float64)
    names = facts.names(logits.shape[1])
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    order = np.argsort(-shares, axis=1, kind="stable")[:, : options.top]
    return [
        tuple(Class(names[n], float(row[n])) for n in numbers)
        for row, numbers in zip(shares, order, strict=True)
    ]


def words(found: Sequence[Class]) -> str:
    """Names and percentages."""
    return "  ".join(f"{row.name} {100 * row.probability:.1f} %" for row in found)


def values(found: Sequence[Class]) -> dict[str, Any]:
    """Names and probabilities."""
    return {"classes": [{"name": row.name, "probability": row.probability} for row in found]}


CLASSIFY = Task("classify", (("B", "C"),), "top", BATCH, prepare, answers, words, values)
