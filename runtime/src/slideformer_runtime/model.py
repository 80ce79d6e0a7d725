# SPDX-License-Identifier: Apache-2.0
"""An exported model that predicts images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from slideformer_runtime.engines import open_file
from slideformer_runtime.errors import UserError
from slideformer_runtime.facts import Facts, read_facts
from slideformer_runtime.images import Source, UnreadableImageError, read_image
from slideformer_runtime.results import Prediction, Result, Unreadable
from slideformer_runtime.tasks import Options, Outputs, Task, find_task


class Model:
    """A file that ``slideformer export`` wrote, ready to run.

    Args:
        file: ending in ``.onnx``, or in ``.xml`` with a ``.bin`` next to it.
        threads: how many to compute with; the engine's choice where None.

    Attributes:
        facts: the model's description in the file.
        task: the row of what the model does.

    Raises:
        UserError: the file cannot be read, is not of slideformer, or needs a package that is not installed.

    Example:
        ::

            model = Model("model.onnx")
            for name, probability in model.predict("photo.jpg", top=3).classes:
                print(name, probability)
    """

    def __init__(self, file: str | os.PathLike[str], *, threads: int | None = None) -> None:
        texts, self._run = open_file(file, threads)
        self._file = os.fspath(file)
        self.facts: Facts = read_facts(texts, self._file)
        self.task: Task = find_task(self.facts.task)

    def predict(self, image: Source, *, top: int | None = None, score: float | None = None) -> Prediction:
        """Predict one image.

        Args:
            image: path, bytes, open file, or an image of Pillow.
            top: of a classifier, how many classes are listed; 5 where None.
            score: of a detector, the lowest score of an object; 0.5 where None.

        Returns:
            `Classification`, `Segmentation` or `Detections`, by the model's task.

        Raises:
            UserError: the image cannot be read or is of a size that the file does not take, an option is
                another task's, or an output is not finite.
        """
        options = self.task.options(top, score)
        path = os.fspath(image) if isinstance(image, (str, os.PathLike)) else "image 1"
        images = self._batch([self._prepare(image)])
        (result,) = self._results(self._run(images), images.shape, [path], options)
        return result

    def stream(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        top: int | None = None,
        score: float | None = None,
        batch_size: int = 8,
    ) -> Iterator[Result]:
        """Predict many images, in order; paths are taken as they are needed.

        Args:
            paths: of the images, however many.
            top: as in `predict`.
            score: as in `predict`.
            batch_size: the most images to run at once; 1 gives each result before the next path is taken.

        Returns:
            A result for each path, `Unreadable` for one that is left out.

        Raises:
            UserError: an option is another task's, or out of its range; or an output is not finite.
        """
        if batch_size < 1:
            raise UserError(f"`batch_size` must be at least 1, got {batch_size}")
        options = self.task.options(top, score)
        most = self.task.batch_size if self.facts.batch is None else self.facts.batch
        return self._stream(iter(paths), options, min(batch_size, most))

    def _stream(
        self, paths: Iterator[str | os.PathLike[str]], options: Options, batch_size: int
    ) -> Iterator[Result]:
        while group := [os.fspath(path) for path in islice(paths, batch_size)]:
            inputs: dict[int, NDArray[np.float32]] = {}
            results: dict[int, Result] = {}
            for place, path in enumerate(group):
                try:
                    inputs[place] = self._prepare(path)
                except UnreadableImageError as error:
                    results[place] = Unreadable(path, error.reason)
                except UserError as error:
                    results[place] = Unreadable(path, str(error))
            if inputs:
                found = self._run_batch(list(inputs.values()), [group[place] for place in inputs], options)
                results |= zip(inputs, found, strict=True)
            yield from (results[place] for place in range(len(group)))

    def _run_batch(
        self, inputs: Sequence[NDArray[np.float32]], paths: Sequence[str], options: Options
    ) -> Sequence[Result]:
        images = self._batch(inputs)
        try:
            outputs = self._run(images)
        except UserError as error:
            return [Unreadable(path, str(error)) for path in paths]
        return self._results(outputs, images.shape, paths, options)

    def _prepare(self, image: Source) -> NDArray[np.float32]:
        return self.task.prepare(read_image(image), self.facts)

    def _batch(self, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        images = np.stack(inputs)
        if self.facts.batch is not None and len(images) < self.facts.batch:
            # A file that takes only one number of images gets black ones, whose outputs are dropped.
            missing = self.facts.batch - len(images)
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), dtype=np.float32)])
        return images

    def _results(
        self, outputs: Outputs, shape: tuple[int, ...], paths: Sequence[str], options: Options
    ) -> list[Prediction]:
        self.task.check(outputs, shape, self._file)
        for row, path in enumerate(paths):
            # A detector runs one image at a time.
            own = outputs if shape[0] == 1 else [x[row] for x in outputs]
            if not all(np.isfinite(x).all() for x in own):
                raise UserError(
                    f"{self._file} must give finite outputs, but does not for {path}; export it again, "
                    "in float32"
                )
        return self.task.results(outputs, shape, paths, self.facts, options)
