# SPDX-License-Identifier: Apache-2.0
"""Prediction, the same for every task: read images, ask the model, give a result for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from slideformer.dense.sliding import Progress, Sliding
from slideformer.errors import UserError, check_range
from slideformer.runs import Run
from slideformer.tasks.images import (
    OnBadImage,
    UnreadableImageError,
    find_images,
    read_image,
    unreadable_message,
    upright_rgb,
)
from slideformer.tasks.results import MAX_DRAWN, Result, Unreadable, output_stems
from slideformer.tasks.table import find_task

Source: TypeAlias = str | Path | Image.Image | NDArray[Any]
TOP, SCORE = 5, 0.5
# Option -> the only task that takes it.
OWN = {
    "top": "classify",
    "val_fraction": "classify",
    "score": "detect",
    "max_drawn": "detect",
    "annotations": "detect",
    "images": "detect",
    "window": "segment",
    "stride": "segment",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a prediction; each task takes its own.

    Attributes:
        top: how many classes of a classifier are printed.
        score: the lowest score of an object.
        max_drawn: how many objects of an image are drawn.
        sliding: windows of a segmenter; None for whole images.
        progress: called after each window of a segmenter with the number done and that of all.
    """

    top: int = TOP
    score: float = SCORE
    max_drawn: int = MAX_DRAWN
    sliding: Sliding | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class Named:
    """An image to be looked at.

    Attributes:
        path: what to call it in messages and results.
        image: upright, RGB.
        number: among the images of the call, from 1.
        shared: what the result gets besides its values: image, name of its files, and the inputs.
    """

    path: str
    image: Image.Image
    number: int
    shared: dict[str, Any]


@dataclass(frozen=True)
class Predictor:
    """A model that is ready to be asked.

    Attributes:
        batch: how many images it takes at a time.
        answer: gives the result of each.
    """

    batch: int
    answer: Callable[[Sequence[Named]], list[Result]]


def predict(
    run: Run,
    images: Source | Sequence[Source],
    *,
    top: int | None = None,
    score: float | None = None,
    max_drawn: int | None = None,
    window: int | None = None,
    stride: int | None = None,
    on_bad_image: OnBadImage = "skip",
    progress: Progress | None = None,
) -> Iterator[Result]:
    """Predict for images: classes, objects, or the class of every pixel.

    Args:
        run: from `slideformer.open_run`; its model may be on any device.
        images: one or several: a path, a folder with everything below it, a glob, an image of Pillow, or an
            array ``(height, width, 3)`` or ``(height, width)``, uint8.
        top: of a classifier, how many classes are printed; default: 5.
        score: of a detector, the lowest score of an object, from 0 to 1; default: 0.5.
        max_drawn: of a detector, how many objects of an image are drawn, those with the highest scores; the
            result has all. Default: 50.
        window: of a segmenter, side in pixels of a window that slides; default: the whole image at once.
        stride: of a segmenter, pixels from one window to the next; default: two thirds of a window.
        on_bad_image: ``skip`` gives an `Unreadable` for an image that cannot be read; ``stop`` raises.
        progress: called after each window of a segmenter with the number done and that of all.

    Returns:
        A result for each image, in order, computed as it is asked for: `Classification`, `Detections`,
        `Segmentation` or `Unreadable`.

    Raises:
        UserError: an option is another task's or out of its range, or a path names no image; while iterating,
            an image cannot be read and ``on_bad_image`` is ``stop``, or an output is not finite.

    Example:
        ::

            for result in slideformer.predict(run, ["photo.jpg", "folder/"]):
                print(result)
                result.save("drawn")
    """
    own = {"top": top, "score": score, "max_drawn": max_drawn, "window": window, "stride": stride}
    check_task(run, own)
    check_range("`top`", top, 1)
    check_range("`score`", score, 0, 1)
    check_range("`max_drawn`", max_drawn, 0)
    options = Options(
        top=TOP if top is None else top,
        score=SCORE if score is None else score,
        max_drawn=MAX_DRAWN if max_drawn is None else max_drawn,
        sliding=windows(window, stride),
        progress=progress,
    )
    several: Sequence[Source]
    several = [images] if isinstance(images, (str, Path, Image.Image, np.ndarray)) else images
    return results(find_task(run.task).predictor(run, options), find_sources(several), on_bad_image)


def check_task(run: Run, given: Mapping[str, object]) -> None:
    """Check that the options that were given are those of the run's task."""
    for option, value in given.items():
        if value is not None and OWN[option] != run.task:
            raise UserError(
                f"`{option}` goes with a run of {OWN[option]}, got {run.name}, one of {run.task}; "
                "leave it out"
            )


def windows(window: int | None, stride: int | None) -> Sliding | None:
    """The windows that were asked for."""
    if window is None:
        if stride is not None:
            raise UserError(f"`stride` goes with `window`, got {stride} alone; give both")
        return None
    return Sliding(window, max(1, 2 * window // 3) if stride is None else stride)


def find_sources(images: Sequence[Source]) -> list[Path | Image.Image | NDArray[Any]]:
    """The files that paths, folders and globs name, each once, and images and arrays as they come."""
    found: list[Path | Image.Image | NDArray[Any]] = []
    for image in images:
        if isinstance(image, (Image.Image, np.ndarray)):
            found.append(image)
        elif isinstance(image, (str, Path)):
            known = {path for path in found if isinstance(path, Path)}
            found += [path for path in find_images([str(image)]) if path not in known]
        else:
            raise UserError(
                "an image must be a path, an image of Pillow or an array, "
                f"got {type(image).__name__}; convert it"
            )
    return found


def results(
    predictor: Predictor, sources: Sequence[Path | Image.Image | NDArray[Any]], on_bad_image: OnBadImage
) -> Iterator[Result]:
    """The result of each image, in order, some images at a time."""
    paths = [x if isinstance(x, Path) else Path(f"image {n}") for n, x in enumerate(sources, start=1)]
    stems = output_stems(paths)
    inputs = frozenset(path.resolve() for path, x in zip(paths, sources, strict=True) if x is path)
    for first in range(0, len(sources), predictor.batch):
        group: list[Named | Unreadable] = []
        for place in range(first, min(first + predictor.batch, len(sources))):
            try:
                image = as_image(sources[place])
            except UnreadableImageError as error:
                if on_bad_image == "stop":
                    raise UserError(unreadable_message(str(paths[place]), error)) from error
                group.append(Unreadable(str(paths[place]), error.reason))
            else:
                shared = {"image": image, "stem": stems[place], "inputs": inputs}
                group.append(Named(str(paths[place]), image, place + 1, shared))
        readable = [entry for entry in group if isinstance(entry, Named)]
        with torch.inference_mode():
            answers = iter(predictor.answer(readable) if readable else ())
        yield from (entry if isinstance(entry, Unreadable) else next(answers) for entry in group)


def as_image(source: Path | Image.Image | NDArray[Any]) -> Image.Image:
    """An upright RGB image."""
    if isinstance(source, Path):
        return read_image(source)
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or not (source.ndim == 2 or (source.ndim == 3 and source.shape[2] == 3)):
            raise UnreadableImageError(
                "an array must be (height, width, 3) or (height, width) of uint8, "
                f"got {source.shape} of {source.dtype}"
            )
        source = Image.fromarray(source)
    return upright_rgb(source)
