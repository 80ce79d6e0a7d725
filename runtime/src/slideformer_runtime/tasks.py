# SPDX-License-Identifier: Apache-2.0
"""Tasks: how each prepares an image, checks a model's outputs and makes results of them; a row each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slideformer_runtime.errors import UserError
from slideformer_runtime.facts import Facts
from slideformer_runtime.masks import paste
from slideformer_runtime.preprocessing import prepare, unit_pixels
from slideformer_runtime.results import Classification, Detections, Prediction, Segmentation

Outputs: TypeAlias = Sequence[NDArray[np.generic]]


@dataclass(frozen=True)
class Options:
    """The options of a prediction.

    Attributes:
        top: how many classes of a classifier are listed, at least 1.
        score: the lowest score of a detector's objects, from 0 to 1.
    """

    top: int = 5
    score: float = 0.5

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UserError(f"`top` must be at least 1, got {self.top}")
        if not 0 <= self.score <= 1:
            raise UserError(f"`score` must be from 0 to 1, got {self.score}")


def prepared_input(image: Image.Image, facts: Facts) -> NDArray[np.float32]:
    """Prepare an image as in training: ``(3, height, width)``, normalised."""
    assert facts.preprocessing is not None  # of every classifier, since its file was read
    return prepare(image, facts.preprocessing)


def full_size_input(image: Image.Image, facts: Facts) -> NDArray[np.float32]:
    """Prepare an image in its own size: ``(3, height, width)``, from 0 to 1, not normalised."""
    height = image.height if facts.height is None else facts.height
    width = image.width if facts.width is None else facts.width
    if (height, width) != (image.height, image.width):
        raise UserError(
            f"an image must be {width} pixels wide and {height} high for this file, got {image.width} x "
            f"{image.height}; resize it, or export the model for any size"
        )
    return unit_pixels(image)


def classifications(
    outputs: Outputs, shape: tuple[int, ...], paths: Sequence[str], facts: Facts, options: Options
) -> list[Prediction]:
    """Make a result of each image's logits, ``(B, C)``."""
    logits = np.asarray(outputs[0], dtype=np.float64)
    names = facts.names(logits.shape[1])
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return [
        Classification(path, names, row, options.top)
        for path, row in zip(paths, probabilities, strict=False)  # rows that only fill a batch are left out
    ]


def segmentations(
    outputs: Outputs, shape: tuple[int, ...], paths: Sequence[str], facts: Facts, options: Options
) -> list[Prediction]:
    """Make a result of each image's logits, ``(B, C, H, W)``."""
    logits = outputs[0]
    names = facts.names(logits.shape[1])
    labels = logits.argmax(axis=1).astype(np.uint8 if len(names) <= 256 else np.uint16)
    return [Segmentation(path, names, row) for path, row in zip(paths, labels, strict=False)]


def detections(
    outputs: Outputs, shape: tuple[int, ...], paths: Sequence[str], facts: Facts, options: Options
) -> list[Prediction]:
    """Make a result of one image's boxes ``(N, 4)``, scores and labels ``(N,)``, and masks ``(N, S, S)``."""
    boxes, scores = (np.asarray(x, dtype=np.float32) for x in outputs[:2])
    labels = np.asarray(outputs[2], dtype=np.int64)
    ids, names = facts.category_ids, facts.class_names
    # Without names or ids the highest label is the number of classes.
    count = max(len(names), 0 if ids is None else len(ids), int(labels.max(initial=0)))
    if labels.min(initial=1) < 1 or (ids is not None and len(ids) < count):
        raise UserError(
            f"the file's labels must be from 1 to its number of classes, got {labels.min()} to "
            f"{labels.max()}; export it again"
        )
    numbers = tuple(range(1, count + 1))
    sure = scores >= options.score
    result = Detections(
        path=paths[0],
        class_names=facts.names(count) if names else tuple(map(str, numbers)),
        category_ids=numbers if ids is None else ids,
        boxes=boxes[sure],
        scores=scores[sure],
        labels=labels[sure],
        masks=None if len(outputs) == 3 else paste(np.asarray(outputs[3])[sure], boxes[sure], shape[2:]),
    )
    return [result]


@dataclass(frozen=True)
class Task:
    """A row of the table of tasks.

    Attributes:
        name: in the file's metadata.
        outputs: the axes of each output by name: B, H and W are the input's, N, C and S any, 4 is four.
        option: the field of `Options` that the task has, if any.
        batch_size: the most images to run at once where the file takes any number.
        prepare: from an image to an input ``(3, height, width)``.
        results: from the outputs for a batch, and its shape, to the result of each image that has a path.
        extra: the axes of a further output that some files have.
    """

    name: str
    outputs: tuple[tuple[str, ...], ...]
    option: Literal["top", "score"] | None
    batch_size: int
    prepare: Callable[[Image.Image, Facts], NDArray[np.float32]]
    results: Callable[[Outputs, tuple[int, ...], Sequence[str], Facts, Options], list[Prediction]]
    extra: tuple[str, ...] = ()

    def options(self, top: int | None, score: float | None) -> Options:
        """Return the options of a call, with the default where one is None."""
        for name, value in (("top", top), ("score", score)):
            if value is not None and name != self.option:
                raise UserError(
                    f"`{name}` goes with another task, got a file that can {self.name}; leave it out"
                )
        return Options(
            top=Options.top if top is None else top, score=Options.score if score is None else score
        )

    def check(self, outputs: Outputs, shape: tuple[int, ...], file: str) -> None:
        """Reject outputs of another form, which show that the file is for another task.

        Args:
            outputs: for one input.
            shape: of the input, ``(B, 3, H, W)``.
            file: for the error.

        Raises:
            UserError: there are more or fewer, or one has other axes or is not of numbers.
        """
        sides = {"B": shape[0], "H": shape[2], "W": shape[3], "4": 4}
        known = (
            (*self.outputs, self.extra) if self.extra and len(outputs) > len(self.outputs) else self.outputs
        )
        fits = len(outputs) == len(known) and all(
            x.dtype.kind in "fiu"
            and x.ndim == len(axes)
            and all(sides.setdefault(axis, side) == side for axis, side in zip(axes, x.shape, strict=True))
            for x, axes in zip(outputs, known, strict=True)
        )
        if not fits or not sides.get("C", 1):
            form = "; ".join(" x ".join(axes) for axes in self.outputs)
            found = "; ".join(" x ".join(map(str, x.shape)) for x in outputs)
            raise UserError(
                f"{file} says that it can {self.name}, which gives outputs of {form}, but it gives {found}; "
                "export it again"
            )


CLASSIFY = Task("classify", (("B", "C"),), "top", 8, prepared_input, classifications)
SEGMENT = Task("segment", (("B", "C", "H", "W"),), None, 1, full_size_input, segmentations)
DETECT = Task(
    "detect", (("N", "4"), ("N",), ("N",)), "score", 1, full_size_input, detections, extra=("N", "S", "S")
)
TASKS = {task.name: task for task in (CLASSIFY, SEGMENT, DETECT)}


def find_task(name: str) -> Task:
    """Return the row of a task."""
    if name not in TASKS:
        raise UserError(
            f"a file's task must be one of {', '.join(TASKS)}, got {name}; update slideformer-runtime"
        )
    return TASKS[name]
