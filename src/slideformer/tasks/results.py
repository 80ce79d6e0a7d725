# SPDX-License-Identifier: Apache-2.0
"""The results of a prediction: one family of types, with the same methods for the three tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slideformer.errors import UserError
from slideformer.files import atomic_write
from slideformer.tasks.images import read_image
from slideformer.viz import class_colours, draw_classes, draw_detections, draw_segmentation

# A class of this name has no colour.
BACKGROUND = "background"
# The end of the name of a label map.
LABELS = "_labels"
# Objects that are drawn on an image, where no other number is given.
MAX_DRAWN = 50


@dataclass(frozen=True, eq=False, kw_only=True)
class Predicted:
    """The part that all good results share: the image, and how they are written.

    Attributes:
        path: of the image.
        image: upright, RGB; what is drawn on. None to read the file ``path`` where it is drawn on.
        stem: name of the files that `save` writes, without an ending; unique among the results of a call.
        inputs: the images of the call, with links resolved: no file that is written replaces one of them.
    """

    path: str
    image: Image.Image | None = field(default=None, repr=False)
    stem: str = field(default="result", repr=False)
    inputs: frozenset[Path] = field(default=frozenset(), repr=False)
    error = None

    def draw(self) -> Image.Image:
        """The image with the result drawn on it."""
        raise NotImplementedError

    def save(self, folder: str | Path) -> list[Path]:
        """Write the drawn image as PNG, of a segmentation also the label map.

        Args:
            folder: created where it does not exist.

        Returns:
            The files.

        Raises:
            UserError: the folder cannot be written, or a file would replace one of the images.
        """
        return [self._write(self.draw(), folder, "")]

    def _write(self, image: Image.Image, folder: str | Path, ending: str) -> Path:
        file = Path(folder) / f"{self.stem}{ending}.png"
        check_not_an_input(file, self.inputs)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as unfinished:
            image.save(unfinished, format="PNG")
        return file

    def _drawable(self) -> Image.Image:
        return read_image(self.path) if self.image is None else self.image


@dataclass(frozen=True, eq=False)
class Classification(Predicted):
    """The classes of one image.

    Attributes:
        path: of the image, or "image 1" and so on for one without a path.
        class_names: in the order of the probabilities.
        probabilities: ``(C,)``, float64, of all classes; they sum to 1.
        top: how many classes are printed.
    """

    path: str
    class_names: tuple[str, ...]
    probabilities: NDArray[np.float64]
    top: int = 5

    @property
    def labels(self) -> NDArray[np.int64]:
        """Numbers of the ``top`` likeliest classes, the likeliest first: ``(top,)``."""
        return np.argsort(-self.probabilities, kind="stable")[: self.top]

    @property
    def classes(self) -> tuple[tuple[str, float], ...]:
        """Name and probability of the ``top`` likeliest classes, the likeliest first."""
        return tuple((self.class_names[n], float(self.probabilities[n])) for n in self.labels)

    def __str__(self) -> str:
        words = "  ".join(f"{name} {100 * share:.1f} %" for name, share in self.classes)
        return f"{self.path}  {words}"

    def to_dict(self) -> dict[str, Any]:
        """Path, names and probabilities as plain values."""
        rows = [{"name": name, "probability": share} for name, share in self.classes]
        return {"path": self.path, "classes": rows}

    def draw(self) -> Image.Image:
        """The image next to the names and probabilities of its likeliest classes."""
        return draw_classes(self._drawable(), self.classes)


@dataclass(frozen=True, eq=False)
class Detections(Predicted):
    """The objects in one image, that with the highest score first.

    Attributes:
        path: of the image, or "image 1" and so on for one without a path.
        class_names: that of label 1 first.
        category_ids: number of each class in the data that the model was trained on, that of label 1 first.
        boxes: ``(N, 4)``, float32, left, top, right and bottom (xyxy) in pixels of the upright image.
        scores: ``(N,)``, from 0 to 1.
        labels: ``(N,)``, from 1.
        masks: ``(N, height, width)``, bool; None for a detector without masks.
        image_id: number of the image among those of the call, from 1.
        max_drawn: how many objects are drawn, those with the highest scores.

    Example:
        ::

            supervision.Detections(xyxy=r.boxes, confidence=r.scores, class_id=r.labels, mask=r.masks)
    """

    path: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_] | None = None
    image_id: int = 1
    max_drawn: int = field(default=MAX_DRAWN, repr=False, kw_only=True)

    def names(self) -> tuple[str, ...]:
        """The class of each object."""
        return tuple(self.class_names[label - 1] for label in self.labels)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in Counter(self.names()).most_common())
        return f"{self.path}  {counts or 'nothing'}"

    def to_dict(self) -> dict[str, Any]:
        """Path and COCO's results, with the names of the classes, as plain values."""
        from slideformer.tasks.detect.results import coco_rows

        rows = zip(self.names(), coco_rows(self), strict=True)
        return {"path": self.path, "detections": [{"name": name, **row} for name, row in rows]}

    def draw(self) -> Image.Image:
        """The image with boxes, masks, names and scores of ``max_drawn`` objects at most, and a legend."""
        return draw_detections(
            self._drawable(),
            self.boxes,
            self.labels.tolist(),
            self.scores.tolist(),
            self.class_names,
            self.masks,
            max_drawn=self.max_drawn,
        )


@dataclass(frozen=True, eq=False)
class Segmentation(Predicted):
    """The class of every pixel of one image.

    Attributes:
        path: of the image, or "image 1" and so on for one without a path.
        class_names: of every class that the model knows.
        label_map: ``(height, width)``, class numbers from 0, uint8, of the upright image.
    """

    path: str
    class_names: tuple[str, ...]
    label_map: NDArray[np.uint8] = field(repr=False)

    def shares(self) -> tuple[tuple[str, float], ...]:
        """Name of each class that occurs, and its share of the pixels, the largest first."""
        counts = np.bincount(self.label_map.ravel(), minlength=len(self.class_names)) / self.label_map.size
        order = np.argsort(-counts, kind="stable")
        return tuple((self.class_names[n], float(counts[n])) for n in order if counts[n])

    def __str__(self) -> str:
        words = "  ".join(f"{name} {100 * share:.1f} %" for name, share in self.shares())
        return f"{self.path}  {words}"

    def to_dict(self) -> dict[str, Any]:
        """Path, and each class with its share of the pixels, as plain values."""
        return {"path": self.path, "classes": dict(self.shares())}

    def draw(self) -> Image.Image:
        """The image with its classes in colour, next to a legend."""
        return draw_segmentation(self._drawable(), self.label_map, self.class_names, self.colours())

    def save(self, folder: str | Path) -> list[Path]:
        """Write the drawn image and, as a PNG whose palette shows colours, the label map."""
        labels = Image.fromarray(self.label_map)
        labels.putpalette([value for colour in self.colours() for value in colour])
        return [*super().save(folder), self._write(labels, folder, LABELS)]

    def colours(self) -> list[tuple[int, int, int]]:
        """Red, green and blue of each class, from 0 to 255."""
        return palette(self.class_names)


def palette(class_names: Sequence[str]) -> list[tuple[int, int, int]]:
    """Red, green and blue of each class of a segmenter, from 0 to 255; a background is black."""
    return class_colours(len(class_names), background=class_names[0] == BACKGROUND)


@dataclass(frozen=True)
class Unreadable:
    """An image that was left out.

    Attributes:
        path: of the image.
        error: why it could not be read.
    """

    path: str
    error: str

    def __str__(self) -> str:
        return f"left out, unreadable: {self.path} ({self.error})"

    def to_dict(self) -> dict[str, Any]:
        """Path and error as plain values."""
        return {"path": self.path, "error": self.error}

    def draw(self) -> Image.Image:
        """Nothing can be drawn.

        Raises:
            UserError: always.
        """
        raise UserError(f"an image must be readable to be drawn on, got {self.path} ({self.error})")

    def save(self, folder: str | Path) -> list[Path]:
        """Write nothing."""
        return []


Result: TypeAlias = Classification | Detections | Segmentation | Unreadable


def output_stems(paths: Sequence[Path]) -> list[str]:
    """A name for the files of each image, without an ending: with a number where another has it."""
    taken: set[str] = set()
    stems = []
    for path in paths:
        stem, number = path.stem, 1
        while not taken.isdisjoint((stem, stem + LABELS)):
            number += 1
            stem = f"{path.stem}-{number}"
        taken |= {stem, stem + LABELS}
        stems.append(stem)
    return stems


def check_not_an_input(file: Path, inputs: frozenset[Path]) -> None:
    """Check that a file to be written does not replace one of the images."""
    if file.resolve() in inputs:
        raise UserError(f"the result must not replace an image, got {file} for both; choose another `output`")


def check_output(paths: Sequence[Path], folder: Path, endings: Sequence[str] = ("",)) -> None:
    """Check, before any work, that no result of these images would replace one of them."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"`output` must be a folder, got the file {folder}; choose another place")
    inputs = frozenset(path.resolve() for path in paths)
    for stem in output_stems(paths):
        for ending in endings:
            check_not_an_input(folder / f"{stem}{ending}.png", inputs)
