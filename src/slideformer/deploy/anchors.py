# SPDX-License-Identifier: Apache-2.0
"""The anchors of a detector inside its graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn


class Anchors(nn.Module):
    """All anchors of a map, in the order of the heads' answers.

    Args:
        cell_anchors: boxes around a position ``(A, 4)``, of each map.

    Shape: a map ``(1, C, H, W)`` to ``(H W A, 4)``.
    """

    def __init__(self, cell_anchors: Sequence[Tensor]) -> None:
        super().__init__()
        self.cell_anchors = list(cell_anchors)
        for level, anchors in enumerate(self.cell_anchors):
            self.register_buffer(f"anchors{level}", anchors, persistent=False)

    def init_non_persistent_buffers(self) -> None:
        """Fill what is not in the state dict, by timm's name, for loaders that build on the meta device."""
        for level, anchors in enumerate(self.cell_anchors):
            self.get_buffer(f"anchors{level}").copy_(anchors)

    def forward(self, x: Tensor, level: int, image: Tensor) -> Tensor:
        """Anchors around every position.

        Args:
            x: the map ``(1, C, H, W)``.
            level: its number.
            image: what the map was made of; its strides are the image's sides in whole maps, as torchvision
                has them.
        """
        rows, columns = x.shape[-2:]
        height, width = image.shape[-2:]
        top = torch.arange(rows, device=x.device) * (height // rows)
        left = torch.arange(columns, device=x.device) * (width // columns)
        y, x = torch.meshgrid(top, left, indexing="ij")
        shifts = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
        return (shifts + cast("Tensor", getattr(self, f"anchors{level}"))).reshape(-1, 4)
