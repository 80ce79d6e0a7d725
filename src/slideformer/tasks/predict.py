# SPDX-License-Identifier: Apache-2.0
"""Prediction, the same for every task: read images, ask the model, give a result for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from slideformer.dense.sliding import Progress, Sliding
from slideformer.errors import UserError, check_range
from slideformer.runs import Run, placed
from slideformer.tasks.given import Given, Prepared, Source, find_sources, stack
from slideformer.tasks.images import OnBadImage
from slideformer.tasks.results import MAX_DRAWN, Result, Unreadable, output_stems
from slideformer.tasks.table import find_task
from slideformer.tasks.training.batches import MANY, Images, Workers, check_workers, ordered_loader

TOP, SCORE = 5, 0.5
# Option -> the only task that takes it.
OWN = {
    "top": "classify",
    "val_fraction": "classify",
    "root": "classify",
    "split": "classify",
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
        batch_size: images a batch; None for the task's own number.
        top: how many classes of a classifier are printed.
        score: the lowest score of an object.
        max_drawn: how many objects of an image are drawn.
        sliding: windows of a segmenter; None for whole images.
        progress: called after each window of a segmenter with the number done and that of all.
    """

    batch_size: int | None = None
    top: int = TOP
    score: float = SCORE
    max_drawn: int = MAX_DRAWN
    sliding: Sliding | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class Named:
    """An image that is looked at.

    Attributes:
        path: what to call it in messages and results.
        size: height and width of the upright image, in pixels.
        number: among the images of the call, from 1.
        shared: what the result gets besides its values: image, name of its files, and the inputs.
    """

    path: str
    size: tuple[int, int]
    number: int
    shared: dict[str, Any]


@dataclass(frozen=True)
class Predictor:
    """A model that is ready to be asked.

    Attributes:
        batch: how many images it takes at a time.
        prepare: makes 8-bit pixels ``(3, height, width)`` of an image, perhaps in another process.
        answer: gives the result of each image of a batch, from the pixels of all.
    """

    batch: int
    prepare: Callable[[Image.Image], Tensor]
    answer: Callable[[Sequence[Tensor], Sequence[Named]], list[Result]]


def predict(
    run: Run,
    images: Source | Sequence[Source],
    *,
    device: str | None = None,
    batch_size: int | None = None,
    num_workers: Workers = None,
    precision: str | None = None,
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
        run: from `slideformer.open_run`; its model may be on any device, and stays as it is.
        images: one or several: a path, a folder with everything below it, a glob, an image of Pillow, or an
            array ``(height, width, 3)`` or ``(height, width)``, uint8.
        device: where to compute: ``auto`` (the GPU that is here, else the CPU), ``cpu``, ``cuda``, ``mps`` or
            another of PyTorch's names; default: where the model is.
        batch_size: images a batch; default: 32 of a classifier, 1 of the others. A detector pads those of a
            batch to one size, which changes its answers a little; a segmenter takes one at a time.
        num_workers: processes that read files while the model computes; 0 reads in this one; ``auto``: one a
            core, at most 8, for 64 files or more, 0 for fewer. Other images than files are read in this one.
            Default: ``auto`` where processes are forked (Linux); else 0, as a script may lack a main guard.
        precision: ``float32``, ``bfloat16`` or ``float16``; default: float32.
        top: of a classifier, how many classes are printed; default: 5.
        score: of a detector, the lowest score of an object, from 0 to 1; default: 0.5.
        max_drawn: of a detector, how many objects of an image are drawn, those with the highest scores; the
            result has all. Default: 50.
        window: of a segmenter, side in pixels of a window that slides; default: the whole image at once.
        stride: of a segmenter, pixels from one window to the next; default: two thirds of a window.
        on_bad_image: ``skip`` gives an `Unreadable` for an image that cannot be read; ``stop`` raises.
        progress: called after each batch with the number of images done and that of all; with ``window``
            after each window, with the number of windows.

    Returns:
        A result for each image, in order, computed as it is asked for: `Classification`, `Detections`,
        `Segmentation` or `Unreadable`. From 64 images on a merged copy of the model computes them.

    Raises:
        UserError: an option is another task's or out of its range, a path names no image, or the device is
            not here; while iterating, an image cannot be read and ``on_bad_image`` is ``stop``, or an output
            is not finite.

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
    check_range("`batch_size`", batch_size, 1)
    check_workers(num_workers)
    options = Options(
        batch_size=batch_size,
        top=TOP if top is None else top,
        score=SCORE if score is None else score,
        max_drawn=MAX_DRAWN if max_drawn is None else max_drawn,
        sliding=windows(window, stride),
        progress=None if window is None else progress,
    )
    several: Sequence[Source]
    several = [images] if isinstance(images, (str, Path, Image.Image, np.ndarray)) else images
    sources = Given(find_sources(several))
    ready = placed(run, device=device, precision=precision, merge=len(sources) >= MANY)
    predictor = find_task(run.task).predictor(ready, options)
    return results(predictor, sources, on_bad_image, num_workers, progress if window is None else None)


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


def results(
    predictor: Predictor,
    sources: Given,
    on_bad_image: OnBadImage,
    num_workers: Workers,
    progress: Progress | None,
) -> Iterator[Result]:
    """The result of each image, in order, some images at a time."""
    files = sources.files()
    loader = ordered_loader(
        Images(sources, Prepared(predictor.prepare), on_bad_image),
        stack,
        batch_size=predictor.batch,
        # Images in memory may be open files, which processes cannot share.
        num_workers=num_workers if len(files) == len(sources) else 0,
    )
    stems = output_stems(sources.paths)
    first = 0
    for batch in loader:
        rows = [
            Named(
                sources.name(index),
                size,
                index + 1,
                {"image": sources.kept(index), "stem": stems[index], "inputs": files},
            )
            for index, size in batch.check().targets
        ]
        with torch.inference_mode():
            answers = predictor.answer(batch.images, rows) if rows else []
        left_out = [Unreadable(*words) for words in zip(batch.unreadable, batch.reasons, strict=True)]
        count = len(answers) + len(left_out)
        readable = {row.number for row in rows}
        good, bad = iter(answers), iter(left_out)
        yield from (next(good if first + n in readable else bad) for n in range(1, count + 1))
        first += count
        if progress is not None:
            progress(first, len(sources))
