# SPDX-License-Identifier: Apache-2.0
"""An exported model, to be asked about pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from slideformer_runtime.answers import Answer, Found
from slideformer_runtime.engines import open_file
from slideformer_runtime.errors import UserError
from slideformer_runtime.facts import Facts, read_facts
from slideformer_runtime.pictures import Source, UnreadableImageError, read_picture
from slideformer_runtime.tasks import Options, Outputs, Task, find_task


class Model:
    """A file that ``slideformer export`` wrote, ready to run.

    Args:
        file: ending in ``.onnx``, or in ``.xml`` with a ``.bin`` beside it.
        threads: how many to compute with; the engine's own choice where None.

    Attributes:
        facts: what the file tells of the model.
        task: what the model does.

    Raises:
        UserError: the file cannot be read, is not of slideformer, or needs a package that is not installed.

    Example:
        ::

            model = Model("model.onnx")
            for row in model.predict("photo.jpg", top=3):
                print(row.name, row.probability)
    """

    def __init__(self, file: str | os.PathLike[str], *, threads: int | None = None) -> None:
        metadata, self._run = open_file(file, threads)
        self._file = os.fspath(file)
        self.facts: Facts = read_facts(metadata, str(file))
        self.task: Task = find_task(self.facts.task)

    def predict(self, picture: Source, *, top: int | None = None, score: float | None = None) -> Found:
        """What is in one picture.

        Args:
            picture: path, bytes, open file, or a picture of Pillow.
            top: of a classifier, how many classes to tell; 5 where None.
            score: of a detector, the least score that is told; 0.5 where None.

        Returns:
            Of a classifier the likeliest `Class` first, of a segmenter a `LabelMap`, of a detector
            `Detections`.

        Raises:
            UserError: the picture cannot be read or is of a size that the file does not take, an option is
                another task's, or an answer is not finite.
        """
        options = self.task.choose(top, score)
        name = os.fspath(picture) if isinstance(picture, (str, os.PathLike)) else "the picture"
        images = self._batch([self._prepare(picture)])
        (found,) = self._answers(self._run(images), images, [name], options)
        return found

    def stream(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        top: int | None = None,
        score: float | None = None,
        together: int = 8,
    ) -> Iterator[Answer]:
        """What is in each of many pictures, in order; paths are taken as they are needed.

        Args:
            paths: of the pictures, however many.
            top: as in `predict`.
            score: as in `predict`.
            together: the most pictures to run at once; 1 answers each before the next path is taken.

        Returns:
            An answer a path; one that was left out tells why.

        Raises:
            UserError: an option is another task's, or out of its range; or an answer is not finite.
        """
        if together < 1:
            raise UserError(f"together must be at least 1, got {together}")
        options = self.task.choose(top, score)
        most = self.task.together if self.facts.batch is None else self.facts.batch
        return self._stream(iter(paths), options, min(together, most))

    def _stream(
        self, paths: Iterator[str | os.PathLike[str]], options: Options, together: int
    ) -> Iterator[Answer]:
        while group := list(islice(paths, together)):
            inputs: dict[int, NDArray[np.float32]] = {}
            errors: dict[int, str] = {}
            for place, path in enumerate(group):
                try:
                    inputs[place] = self._prepare(path)
                except UnreadableImageError as error:
                    errors[place] = error.reason
                except UserError as error:
                    errors[place] = str(error)
            found: dict[int, Found] = {}
            if inputs:
                images = self._batch(list(inputs.values()))
                names = [os.fspath(group[place]) for place in inputs]
                try:
                    outputs = self._run(images)
                except UserError as error:
                    errors |= dict.fromkeys(inputs, str(error))
                else:
                    found = dict(zip(inputs, self._answers(outputs, images, names, options), strict=True))
            for place, path in enumerate(group):
                yield Answer(os.fspath(path), found.get(place), errors.get(place))

    def _prepare(self, picture: Source) -> NDArray[np.float32]:
        return self.task.prepare(read_picture(picture), self.facts)

    def _batch(self, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        images = np.stack(inputs)
        if self.facts.batch is not None and len(images) < self.facts.batch:
            # A file that takes some number of pictures alone gets black ones, whose answers are dropped.
            missing = self.facts.batch - len(images)
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), dtype=np.float32)])
        return images

    def _answers(
        self, outputs: Outputs, images: NDArray[np.float32], names: Sequence[str], options: Options
    ) -> list[Found]:
        self.task.check(outputs, images.shape, self._file)
        for row, name in enumerate(names):
            # A detector answers for one picture alone.
            own = outputs if len(images) == 1 else [x[row] for x in outputs]
            if not all(np.isfinite(x).all() for x in own):
                raise UserError(
                    f"{self._file} must give finite answers, but does not for {name}; export it again, "
                    "in float32"
                )
        return self.task.answers(outputs, self.facts, options)[: len(names)]
