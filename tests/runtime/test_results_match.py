# SPDX-License-Identifier: Apache-2.0
"""The results of the library and of the runtime have the same types, fields and forms."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from slideformer_runtime import results as theirs

from slideformer.tasks import results as ours

NAMES = ("Classification", "Detections", "Segmentation", "Unreadable")
# Fields that the library adds: to draw a result and to number its image.
OWN = {"image", "stem", "inputs", "max_drawn", "image_id"}

VALUES: dict[str, dict[str, Any]] = {
    "Classification": {"class_names": ("ant", "bee"), "probabilities": np.array([0.25, 0.75]), "top": 1},
    "Detections": {
        "class_names": ("ant", "bee"),
        "category_ids": (7, 9),
        "boxes": np.array([[1, 2, 5, 9], [0, 0, 3, 4]], dtype=np.float32),
        "scores": np.array([0.5, 0.25], dtype=np.float32),
        "labels": np.array([2, 1]),
    },
    "Detections with masks": {
        "class_names": ("ant", "bee"),
        "category_ids": (7, 9),
        "boxes": np.array([[1, 2, 5, 9], [0, 0, 3, 4]], dtype=np.float32),
        "scores": np.array([0.5, 0.25], dtype=np.float32),
        "labels": np.array([2, 1]),
        "masks": np.arange(180).reshape(2, 9, 10) % 7 < 4,
    },
    "Segmentation": {"class_names": ("ant", "bee"), "label_map": np.array([[0, 1], [1, 1]], dtype=np.uint8)},
    "Unreadable": {"error": "no image"},
}


@pytest.mark.parametrize("name", NAMES)
def test_fields_have_the_same_names_in_the_same_order(name: str) -> None:
    own = [field.name for field in fields(getattr(ours, name)) if field.name not in OWN]
    assert own == [field.name for field in fields(getattr(theirs, name))]


@pytest.mark.parametrize("name", VALUES)
def test_values_print_and_convert_alike(name: str) -> None:
    kind = name.split()[0]
    mine, other = (getattr(module, kind)("a.jpg", **VALUES[name]) for module in (ours, theirs))
    assert str(mine).endswith(str(other).removeprefix("left out: "))
    found, wanted = mine.to_dict(), other.to_dict()
    for row in found.get("detections", ()):
        del row["image_id"]
    assert found == wanted
    for word in ("labels", "classes", "error"):
        assert str(getattr(mine, word, None)) == str(getattr(other, word, None))
