# SPDX-License-Identifier: Apache-2.0
"""Answers of a model that are not finite are an error, which names the model's file and the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from slideformer.errors import UserError


class NotFiniteError(UserError):
    """Some number among a model's answers is NaN or infinite."""


def check_finite(answers: Any) -> None:
    """Refuse answers that are not finite: a tensor, or several in a tuple, list or mapping."""
    if isinstance(answers, Tensor):
        # A graph that is being written down has no numbers to look at.
        if answers.is_meta or not answers.is_floating_point() or torch.compiler.is_compiling():
            return
        # A sum of finite numbers may overflow, and costs far less than to look at each.
        if torch.isfinite(answers.sum()):
            return
        finite = torch.isfinite(answers)
        if not finite.all():
            raise NotFiniteError(
                f"a model must give finite answers, got {float(answers[~finite][0])}; compute in float32, or "
                "train it again"
            )
        return
    for x in answers.values() if isinstance(answers, Mapping) else answers:
        check_finite(x)


def check_rows(model: str, answers: Tensor, images: Sequence[object]) -> None:
    """Refuse answers ``(B, ...)`` for a batch of images, of which the first bad one is named.

    Args:
        model: what to call the model in the error.
        answers: of the model.
        images: name of each.

    Raises:
        UserError: a number is NaN or infinite.
    """
    broken = (~torch.isfinite(answers)).flatten(1).any(1)
    if broken.any():
        row = int(broken.nonzero()[0])
        name = images[row] if row < len(images) else f"image {row + 1} of a batch"
        with naming_image(model, name):
            check_finite(answers[row])


@contextmanager
def naming_image(model: str, image: object) -> Iterator[None]:
    """Say for which model and image answers are not finite.

    Args:
        model: what to call it in the error.
        image: its path.

    Raises:
        UserError: the block raises `NotFiniteError`.
    """
    try:
        yield
    except NotFiniteError as error:
        raise UserError(f"{model}, {image}: {error}") from error
