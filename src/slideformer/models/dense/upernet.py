# SPDX-License-Identifier: Apache-2.0
"""The head of UPerNet (Xiao et al., 2018), segmentation-models-pytorch's, for any stride and any export."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from slideformer.errors import UserError


class UperNet(nn.Module):
    """One map of the finest stride out of four: pooled context, then a feature pyramid, concatenated.

    Layers and sums are those of OpenMMLab's ``UPerHead``, with which the paper trained.

    Args:
        in_channels: channels of each map, from fine to coarse.
        channels: of the pyramid and of the result.

    Shape: ``[(B, C, H, W), (B, C', H', W'), ...] -> (B, channels, H, W)``.

    Raises:
        UserError: segmentation-models-pytorch is not installed; a picture alone is trained on.
    """

    def __init__(self, in_channels: Sequence[int], *, channels: int = 512) -> None:
        super().__init__()
        try:
            from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
        except ImportError as error:
            raise UserError(
                "upernet needs segmentation-models-pytorch, which is not installed; "
                "pip install 'slideformer[segment]'"
            ) from error
        self.out_channels = channels
        # The library counts maps from the picture itself and from half its size, which the head leaves out.
        self.decoder = UPerNetDecoder((0, 0, *in_channels), len(in_channels) + 1, channels)
        # The backbone's maps come normalised, so that the auxiliary head has them so, too.
        self.decoder.feature_norms = nn.ModuleList(nn.Identity() for _ in in_channels)
        for block in self.decoder.psp.blocks:
            block[0] = AreaPool(block[0].output_size)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Fuse the maps: ``[(B, C, H, W), ...] -> (B, channels, H, W)``."""
        if self.training and len(maps[0]) == 1:
            raise UserError(
                "upernet must be trained on two pictures a batch or more, whose pooled means it normalises, "
                "got one; pass a larger --data.batch_size"
            )
        return self.decoder([maps[0], maps[0], *maps])


class AreaPool(nn.Module):
    """Mean of each cell of a grid over the map, as ``nn.AdaptiveAvgPool2d``, by matrix products.

    These a map of open size can be exported with; adaptive pooling it cannot.

    Args:
        cells: a side of the grid.

    Shape: ``(B, C, H, W) -> (B, C, cells, cells)``.
    """

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        """Means over cells: rows first, then columns."""
        rows, columns = (self.shares(size, x) for size in x.shape[-2:])
        return torch.matmul(torch.matmul(rows, x), columns.T)

    def shares(self, size: int, like: Tensor) -> Tensor:
        """What each position adds to the mean of each cell: ``(cells, size)``; neighbours may share one."""
        cell = torch.arange(self.cells, device=like.device)[:, None]
        position = torch.arange(size, device=like.device)
        first, end = cell * size // self.cells, -(-(cell + 1) * size // self.cells)
        inside = ((position >= first) & (position < end)).to(like.dtype)
        return inside / inside.sum(1, keepdim=True)
