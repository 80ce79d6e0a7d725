# SPDX-License-Identifier: Apache-2.0
"""Results: a type for each task, and one for an image that was left out.

``str(result)`` is one readable line, ``result.to_dict()`` plain values for JSON, and ``result.error`` None
unless the image was left out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slideformer_runtime.run_lengths import run_lengths


@dataclass(frozen=True, eq=False)
class Classification:
    """The probability of every class for one image.

    Attributes:
        path: of the image, "image 1" where it has none.
        class_names: of all C classes; their numbers where the model has no names.
        probabilities: ``(C,)``, from 0 to 1.
        top: how many classes are listed.
    """

    path: str
    class_names: tuple[str, ...]
    probabilities: NDArray[np.float64]
    top: int = 5
    error: ClassVar[None] = None

    @property
    def labels(self) -> NDArray[np.int64]:
        """Numbers of the ``top`` likeliest classes, from 0, likeliest first."""
        return np.argsort(-self.probabilities, kind="stable")[: self.top]

    @property
    def classes(self) -> tuple[tuple[str, float], ...]:
        """Names and probabilities of the ``top`` likeliest classes, likeliest first."""
        return tuple((self.class_names[label], float(self.probabilities[label])) for label in self.labels)

    def __str__(self) -> str:
        return "  ".join((self.path, *(f"{name} {100 * share:.1f} %" for name, share in self.classes)))

    def to_dict(self) -> dict[str, Any]:
        """Path, and names with probabilities."""
        classes = [{"name": name, "probability": probability} for name, probability in self.classes]
        return {"path": self.path, "classes": classes}


@dataclass(frozen=True, eq=False)
class Detections:
    """N objects in one image, highest score first.

    Attributes:
        path: of the image, "image 1" where it has none.
        class_names: of all classes, that of label 1 first.
        category_ids: numbers of the classes in the training data, that of label 1 first.
        boxes: ``(N, 4)``, left, top, right and bottom in pixels of the upright image.
        scores: ``(N,)``, from 0 to 1.
        labels: ``(N,)``, class numbers from 1.
        masks: ``(N, H, W)``, True on the object; None where the model gives none.
    """

    path: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_] | None = None
    error: ClassVar[None] = None

    def names(self) -> tuple[str, ...]:
        """The class of each object."""
        return tuple(self.class_names[label - 1] for label in self.labels)

    def __str__(self) -> str:
        counts = [f"{count} {name}" for name, count in Counter(self.names()).most_common()]
        return f"{self.path}  {', '.join(counts) if counts else 'nothing'}"

    def to_dict(self) -> dict[str, Any]:
        """Path, and objects as in COCO's results, with names.

        Boxes are left, top, width and height, masks compressed run lengths.
        """
        rows = zip(self.names(), self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True)
        detections: list[dict[str, Any]] = [
            {
                "name": name,
                "category_id": self.category_ids[label - 1],
                "score": score,
                "bbox": [left, top, right - left, bottom - top],
            }
            for name, label, score, (left, top, right, bottom) in rows
        ]
        if self.masks is not None:
            for row, mask in zip(detections, self.masks, strict=True):
                row["segmentation"] = {"size": list(mask.shape), "counts": run_lengths(mask)}
        return {"path": self.path, "detections": detections}


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The class of every pixel of one image.

    Attributes:
        path: of the image, "image 1" where it has none.
        class_names: of all classes, that of number 0 first.
        label_map: ``(H, W)``, class numbers of the upright image, of 16 bits for more than 256 classes.
    """

    path: str
    class_names: tuple[str, ...]
    label_map: NDArray[np.uint8] | NDArray[np.uint16]
    error: ClassVar[None] = None

    def shares(self) -> tuple[tuple[str, float], ...]:
        """Name of each class that is present, and its share of the pixels, largest first."""
        counts = np.bincount(self.label_map.ravel(), minlength=len(self.class_names)) / self.label_map.size
        order = np.argsort(-counts, kind="stable")
        return tuple((self.class_names[n], float(counts[n])) for n in order if counts[n])

    def __str__(self) -> str:
        return "  ".join((self.path, *(f"{name} {100 * share:.1f} %" for name, share in self.shares())))

    def to_dict(self) -> dict[str, Any]:
        """Path, and each class with its share of the pixels."""
        return {"path": self.path, "classes": dict(self.shares())}


@dataclass(frozen=True)
class Unreadable:
    """An image that was left out.

    Attributes:
        path: of the image.
        error: the reason.
    """

    path: str
    error: str

    def __str__(self) -> str:
        return f"left out: {self.path} ({self.error})"

    def to_dict(self) -> dict[str, Any]:
        """Path and error."""
        return {"path": self.path, "error": self.error}


Prediction: TypeAlias = Classification | Detections | Segmentation
Result: TypeAlias = Prediction | Unreadable
