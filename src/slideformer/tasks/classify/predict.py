# SPDX-License-Identifier: Apache-2.0
"""Classes of pictures that nobody has labelled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from slideformer.errors import UserError
from slideformer.models import Pretrained
from slideformer.models.finite import check_rows
from slideformer.models.preprocessing import EvalTransform
from slideformer.tasks.pictures import OnBadImage, UnreadableImageError, read_image, refusal

# Images at a time, and pixels of their inputs, of which a large one has many.
BATCH, PIXELS = 32, 2**24


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one picture.

    Attributes:
        path: of the picture.
        classes: names and probabilities, the likeliest first; empty if it could not be read.
        error: why it could not be read, or None.
    """

    path: str
    classes: tuple[tuple[str, float], ...]
    error: str | None = None


@torch.inference_mode()
def predict(
    model: nn.Module,
    info: Pretrained,
    paths: Sequence[Path],
    *,
    top: int = 5,
    on_bad_image: OnBadImage = "skip",
) -> Iterator[Prediction]:
    """Classify pictures, some at a time.

    Args:
        model: in evaluation mode.
        info: its class names and preprocessing.
        paths: of the pictures.
        top: how many classes to tell.
        on_bad_image: ``skip`` gives a prediction that says what is wrong; ``stop`` raises it.

    Raises:
        UserError: a picture cannot be read and ``on_bad_image`` is ``stop``, or an answer is not finite.
    """
    transform = EvalTransform(info)
    batch = min(BATCH, max(1, PIXELS // (info.input_size[1] * info.input_size[2])))
    for start in range(0, len(paths), batch):
        images, errors = {}, {}
        for path in paths[start : start + batch]:
            try:
                images[path] = transform(read_image(path))
            except UnreadableImageError as error:
                if on_bad_image == "stop":
                    raise UserError(refusal(str(path), error)) from error
                errors[path] = error.reason
        likeliest = {}
        if images:
            logits = model(torch.stack(list(images.values()))).float()
            check_rows(model, logits, list(images))
            probabilities, classes = logits.softmax(1).sort(descending=True)
            names = info.label_names
            for path, shares, numbers in zip(images, probabilities.tolist(), classes.tolist(), strict=True):
                pairs = zip(numbers[:top], shares[:top], strict=True)
                likeliest[path] = tuple((names[n] if names else str(n), share) for n, share in pairs)
        for path in paths[start : start + batch]:
            yield Prediction(str(path), likeliest.get(path, ()), errors.get(path))
