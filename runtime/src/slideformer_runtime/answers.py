# SPDX-License-Identifier: Apache-2.0
"""What a model finds in a picture, one form a task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Class:
    """A class that a picture may be of.

    Attributes:
        name: of the class, its number where the file has no names.
        probability: from 0 to 1.
    """

    name: str
    probability: float


@dataclass(frozen=True, eq=False)
class LabelMap:
    """The class of every pixel.

    Attributes:
        labels: ``(height, width)``, class numbers from 0 of the upright picture, of 8 bits, of 16 where there
            are more than 256 classes.
        class_names: of every class that the model knows.
    """

    labels: NDArray[np.unsignedinteger[Any]] = field(repr=False)
    class_names: tuple[str, ...]

    def shares(self) -> tuple[tuple[str, float], ...]:
        """Name of each class that is there, and its share of the pixels, the largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.class_names)) / self.labels.size
        order = np.argsort(-counts, kind="stable")
        return tuple((self.class_names[n], float(counts[n])) for n in order if counts[n])


@dataclass(frozen=True, eq=False)
class Detections:
    """Objects, the surest first.

    Attributes:
        boxes: ``(N, 4)``, left, top, right and bottom in pixels of the upright picture.
        scores: ``(N,)``, from 0 to 1.
        labels: ``(N,)``, from 1.
        class_names: that of label 1 first.
        category_ids: numbers of the classes in the data that the model was trained on, that of label 1 first.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]

    def names(self) -> tuple[str, ...]:
        """The class of each object."""
        return tuple(self.class_names[label - 1] for label in self.labels)


# A classifier's, a segmenter's and a detector's.
Found: TypeAlias = "tuple[Class, ...] | LabelMap | Detections"


@dataclass(frozen=True, eq=False)
class Answer:
    """What is said of one picture of many.

    Attributes:
        path: of the picture.
        found: in it; None if it was left out.
        error: why it was left out, or None.
    """

    path: str
    found: Found | None
    error: str | None = None
