# SPDX-License-Identifier: Apache-2.0
"""Segmenters: the class of every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from slideformer_runtime.answers import Found, LabelMap
from slideformer_runtime.facts import Facts
from slideformer_runtime.tasks.task import Options, Outputs, Task
from slideformer_runtime.tasks.whole import whole_picture

# The most classes whose numbers 8 bits hold.
EIGHT_BITS = 256


def answers(outputs: Outputs, facts: Facts, options: Options) -> list[Found]:
    """The label map of each picture, from logits ``(B, classes, height, width)``."""
    logits = outputs[0]
    names = facts.names(logits.shape[1])
    dtype = np.uint8 if len(names) <= EIGHT_BITS else np.uint16
    return [LabelMap(labels.astype(dtype), names) for labels in logits.argmax(axis=1)]


def words(found: LabelMap) -> str:
    """Names and percentages of the pixels."""
    return "  ".join(f"{name} {100 * share:.1f} %" for name, share in found.shares())


def values(found: LabelMap) -> dict[str, Any]:
    """Each class and its share of the pixels."""
    return {"classes": dict(found.shares())}


SEGMENT = Task("segment", (("B", "C", "H", "W"),), None, 1, whole_picture, answers, words, values)
