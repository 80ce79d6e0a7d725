# SPDX-License-Identifier: Apache-2.0
"""Objects in pictures that nobody has annotated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.transforms.v2 import functional

from slideformer.errors import UserError
from slideformer.models.finite import naming_image
from slideformer.tasks.detect.results import Detections, binary_masks, found_by
from slideformer.tasks.pictures import OnBadImage, UnreadableImageError, read_image, refusal


@dataclass(frozen=True)
class PictureDetections:
    """What was found in one picture.

    Attributes:
        path: of the picture.
        picture: itself; None if it could not be read.
        found: objects, the surest first; None if it could not be read.
        output: the detector's own, of the same objects.
        error: why it could not be read, or None.
    """

    path: Path
    picture: Image.Image | None
    found: Detections | None
    output: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    error: str | None = None

    def drawable(self) -> dict[str, Any]:
        """What there is to draw: ``boxes``, ``labels``, ``scores`` and ``masks``, or None for these."""
        masks = binary_masks(self.output)
        return {
            "boxes": self.output["boxes"].numpy(),
            "labels": self.output["labels"].tolist(),
            "scores": self.output["scores"].tolist(),
            "masks": None if masks is None else masks.numpy(),
        }


@torch.inference_mode()
def predict(
    model: nn.Module, paths: Sequence[Path], *, score: float = 0.5, on_bad_image: OnBadImage = "skip"
) -> Iterator[PictureDetections]:
    """Look for objects, picture by picture; their numbers count from 1 in the order of the paths.

    Args:
        model: a detector in evaluation mode.
        paths: of the pictures.
        score: the least that is told.
        on_bad_image: ``skip`` gives a result that says what is wrong; ``stop`` raises it.

    Raises:
        UserError: a picture cannot be read and ``on_bad_image`` is ``stop``, or an answer is not finite.
    """
    device = next(model.parameters()).device
    for number, path in enumerate(paths, start=1):
        try:
            picture = read_image(path)
        except UnreadableImageError as error:
            if on_bad_image == "stop":
                raise UserError(refusal(str(path), error)) from error
            yield PictureDetections(path, None, None, error=error.reason)
            continue
        pixels = functional.pil_to_tensor(picture).to(device)
        with at_least(model, score), naming_image(model, path):
            (output,) = model([functional.to_dtype(pixels, torch.float32, scale=True)])
        sure = output["scores"] >= score
        told = {key: x[sure].cpu() for key, x in output.items()}
        yield PictureDetections(path, picture, found_by(told, number), told)


@contextmanager
def at_least(model: nn.Module, score: float) -> Iterator[None]:
    """Have a detector make no masks of what is not told: each takes as many pixels as the picture has.

    Args:
        model: the detector, as it was afterwards.
        score: what is told has it or more.
    """
    heads = [part for part in model.modules() if isinstance(part, RoIHeads)]
    before = [part.score_thresh for part in heads]
    for part in heads:
        # A little less, for heads tell what has more.
        part.score_thresh = max(part.score_thresh, score - 1e-6)
    try:
        yield
    finally:
        for part, threshold in zip(heads, before, strict=True):
            part.score_thresh = threshold
