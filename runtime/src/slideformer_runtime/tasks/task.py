# SPDX-License-Identifier: Apache-2.0
"""What a task is: from a picture to an input, from outputs to answers, from an answer to words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slideformer_runtime.answers import Found
from slideformer_runtime.errors import UserError
from slideformer_runtime.facts import Facts

Outputs: TypeAlias = "Sequence[NDArray[np.generic]]"


@dataclass(frozen=True)
class Options:
    """What the person at the keyboard may choose.

    Attributes:
        top: how many classes a classifier tells.
        score: the least score of an object that a detector tells.
    """

    top: int = 5
    score: float = 0.5

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UserError(f"top must be at least 1, got {self.top}")
        if not 0 <= self.score <= 1:
            raise UserError(f"score must be from 0 to 1, got {self.score}")


@dataclass(frozen=True)
class Task:
    """A row of the table of tasks.

    Attributes:
        name: as files have it.
        outputs: the axes of each output by name: B, H and W are the input's, N and C any, 4 is four.
        option: of `Options`, the one that the task has; None for none.
        together: how many pictures to run at once where the file takes any number.
        prepare: from a picture to an input ``(3, height, width)``.
        answers: from the outputs for a batch to an answer for each picture.
        words: an answer in one line.
        values: an answer as plain values, for a line of JSON.
    """

    name: str
    outputs: tuple[tuple[str, ...], ...]
    option: str | None
    together: int
    prepare: Callable[[Image.Image, Facts], NDArray[np.float32]]
    answers: Callable[[Outputs, Facts, Options], list[Found]]
    words: Callable[[Any], str]
    values: Callable[[Any], dict[str, Any]]

    def check(self, outputs: Outputs, shape: tuple[int, ...], file: str) -> None:
        """Refuse outputs of another form, which show that the file is another task's.

        Args:
            outputs: for one input.
            shape: of the input, ``(B, 3, H, W)``.
            file: for the error.

        Raises:
            UserError: there are more or fewer, or one has other axes or holds no numbers.
        """
        sides = {"B": shape[0], "H": shape[2], "W": shape[3], "4": 4}
        fits = len(outputs) == len(self.outputs) and all(
            x.dtype.kind in "fiu"
            and x.ndim == len(axes)
            and all(sides.setdefault(axis, side) == side for axis, side in zip(axes, x.shape, strict=True))
            for x, axes in zip(outputs, self.outputs, strict=True)
        )
        if not fits or not sides.get("C", 1):
            form = "; ".join(" x ".join(axes) for axes in self.outputs)
            found = "; ".join(" x ".join(map(str, x.shape)) for x in outputs)
            raise UserError(
                f"{file} says that it can {self.name}, which gives answers of {form}, but it gives {found}; "
                "export it again"
            )

    def choose(self, top: int | None, score: float | None) -> Options:
        """The options of a call, the task's own where None.

        Raises:
            UserError: an option is another task's, or out of its range.
        """
        for name, value in (("top", top), ("score", score)):
            if value is not None and name != self.option:
                raise UserError(
                    f"{name} goes with another task, got a file that can {self.name}; leave it out"
                )
        return Options(
            top=Options.top if top is None else top, score=Options.score if score is None else score
        )
