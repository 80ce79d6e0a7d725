# SPDX-License-Identifier: Apache-2.0
"""Detectors: boxes around objects, their classes and scores."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from slideformer_runtime.answers import Detections, Found
from slideformer_runtime.errors import UserError
from slideformer_runtime.facts import Facts
from slideformer_runtime.tasks.task import Options, Outputs, Task
from slideformer_runtime.tasks.whole import whole_picture


def answers(outputs: Outputs, facts: Facts, options: Options) -> list[Found]:
    """What is in a picture, from boxes ``(N, 4)``, scores ``(N,)`` and labels ``(N,)``."""
    boxes, scores, labels = outputs
    boxes, scores = (np.asarray(x, dtype=np.float32) for x in (boxes, scores))
    sure = scores >= options.score
    # Without names or numbers the highest label tells how many classes there are to name.
    numbered = np.asarray(labels, dtype=np.int64)
    ids = () if facts.category_ids is None else facts.category_ids
    known = max(len(facts.class_names), len(ids), int(numbered.max(initial=0)))
    if numbered.min(initial=1) < 1 or (facts.category_ids is not None and len(facts.category_ids) < known):
        raise UserError(
            f"the file's labels must be from 1 to its number of classes, got {numbered.min()} to "
            f"{numbered.max()}; export it again"
        )
    numbers = tuple(range(1, known + 1))
    return [
        Detections(
            boxes=boxes[sure],
            scores=scores[sure],
            labels=numbered[sure],
            class_names=facts.names(known) if facts.class_names else tuple(map(str, numbers)),
            category_ids=numbers if facts.category_ids is None else facts.category_ids,
        )
    ]


def words(found: Detections) -> str:
    """How many of each class."""
    counts = ", ".join(f"{count} {name}" for name, count in Counter(found.names()).most_common())
    return counts if counts else "nothing"


def values(found: Detections) -> dict[str, Any]:
    """COCO's results, with names: boxes by left, top, width and height."""
    rows = zip(found.names(), found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
    return {
        "detections": [
            {
                "name": name,
                "category_id": found.category_ids[label - 1],
                "score": score,
                "bbox": [left, top, right - left, bottom - top],
            }
            for name, label, score, (left, top, right, bottom) in rows
        ]
    }


DETECT = Task("detect", (("N", "4"), ("N",), ("N",)), "score", 1, whole_picture, answers, words, values)
