# SPDX-License-Identifier: Apache-2.0
"""A detector as a graph of ordinary operators, for one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.dense.regions import Regions
from slideformer.dense.retina import Retina
from slideformer.deploy.regions import RegionFinder
from slideformer.deploy.retina import RetinaFinder
from slideformer.errors import UserError

# Finds the objects in the maps of a detector.
FINDERS: dict[type[nn.Module], Callable[[nn.Module], nn.Module]] = {
    Retina: RetinaFinder,
    Regions: RegionFinder,
}


class DetectorGraph(nn.Module):
    """The detections in one image that has the detector's size already, computed by ordinary operators.

    It is the detector without its resizing, which `resized_first` puts in front of the exported graph: the
    sizes of a graph whose image may have any size are formulas, and formulas of formulas take minutes.

    Args:
        detector: one of ours, in evaluation mode.

    Shape: ``(1, 3, height, width) -> (N, 4), (N,), (N,)``, pixels in [0, 1]; boxes as left, top, right and
    bottom, their scores, in descending order, and labels from 1; then masks ``(N, side, side)`` from 0 to 1,
    each in its box, of a detector that has them.

    Raises:
        UserError: the detector is of another kind.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        finders = [find for kind, find in FINDERS.items() if isinstance(detector, kind)]
        if not finders:
            raise UserError(
                f"a detector must be one of slideformer's to be exported, got a {type(detector).__name__}; "
                "build it with slideformer.dense.create_detector"
            )
        self.backbone: Any = detector.backbone
        self.find: Any = finders[0](detector)
        self.transform: Any = detector.transform

    @property
    def masks(self) -> bool:
        """Whether there are masks among the outputs."""
        return getattr(self.find, "masks", False)

    @property
    def sides(self) -> tuple[int, int]:
        """The shorter side to which the detector resizes an image, and the most that the longer may have."""
        return self.transform.min_size[-1], self.transform.max_size

    def resized(self, image: Tensor) -> Tensor:
        """An image ``(1, 3, height, width)`` in the detector's size."""
        images, _ = self.transform([image[0]])
        return F.interpolate(image, images.image_sizes[0], mode="bilinear", align_corners=False)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Detect: ``(1, 3, height, width) -> (N, 4), (N,), (N,)``, and masks ``(N, side, side)``."""
        height, width = image.shape[-2:]
        features, multiple = self.backbone.features, self.transform.size_divisible
        normalised = (image - features.mean) / features.std
        padded = F.pad(normalised, (0, -width % multiple, 0, -height % multiple))
        found: tuple[Tensor, ...] = self.find(list(self.backbone(padded).values()), padded, (height, width))
        return found
