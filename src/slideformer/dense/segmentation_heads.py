# SPDX-License-Identifier: Apache-2.0
"""The heads of segmenters: from four maps to one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.misc import Conv2dNormActivation

from slideformer.errors import UserError


class SemanticFpn(nn.Module):
    """One map of the finest stride out of four.

    Convolutions are followed by batch normalisation, as OpenMMLab has them and the paper trained with;
    Kirillov et al. have group normalisation, of as many parameters.

    Args:
        in_channels: channels of each map, from fine to coarse.
        channels: of the pyramid.
        head_channels: of the result.

    Shape: ``[(B, C, H, W), (B, C', H / 2, W / 2), ...] -> (B, head_channels, H, W)``.
    """

    def __init__(self, in_channels: Sequence[int], *, channels: int = 256, head_channels: int = 128) -> None:
        super().__init__()
        self.out_channels = head_channels
        self.pyramid = FeaturePyramidNetwork(list(in_channels), channels)
        self.branches = nn.ModuleList(
            Branch(channels, head_channels, max(1, level)) for level in range(len(in_channels))
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Fuse the maps: ``[(B, C, H, W), ...] -> (B, head_channels, H, W)``."""
        levels = self.pyramid(OrderedDict((str(level), x) for level, x in enumerate(maps))).values()
        sizes: list[Sequence[int]] = [x.shape[-2:] for x in levels]
        fused = [
            branch(x, sizes[:level][::-1])
            for level, (branch, x) in enumerate(zip(self.branches, levels, strict=True))
        ]
        return sum(fused[1:], start=fused[0])


class Branch(nn.Module):
    """Convolutions of one level, each followed by enlarging the map to the next finer level.

    Args:
        channels: of the level.
        head_channels: of the result.
        steps: convolutions.
    """

    def __init__(self, channels: int, head_channels: int, steps: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            Conv2dNormActivation(head_channels if step else channels, head_channels) for step in range(steps)
        )

    def forward(self, x: Tensor, sizes: Sequence[Sequence[int]]) -> Tensor:
        """Bring one level to the size of the finest.

        Args:
            x: ``(B, channels, H, W)``.
            sizes: height and width of each finer level, the next one first; none for the finest.
        """
        for step, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if sizes:
                x = F.interpolate(x, tuple(sizes[step]), mode="bilinear", align_corners=False)
        return x


class UperNet(nn.Module):
    """One map of the finest stride out of four: pooled context, then a feature pyramid, concatenated.

    Layers and sums are those of OpenMMLab's ``UPerHead``, with which the paper trained.

    Args:
        in_channels: channels of each map, from fine to coarse.
        channels: of the pyramid and of the result.

    Shape: ``[(B, C, H, W), (B, C', H', W'), ...] -> (B, channels, H, W)``.

    Raises:
        UserError: segmentation-models-pytorch is not installed; an image alone is trained on.
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
        # The library counts maps from the image itself and from half its size, which the head leaves out.
        self.decoder = UPerNetDecoder((0, 0, *in_channels), len(in_channels) + 1, channels)
        # The backbone's maps come normalised, so that the auxiliary head has them so, too.
        self.decoder.feature_norms = nn.ModuleList(nn.Identity() for _ in in_channels)
        for block in self.decoder.psp.blocks:
            block[0] = AreaPool(block[0].output_size)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Fuse the maps: ``[(B, C, H, W), ...] -> (B, channels, H, W)``."""
        if self.training and len(maps[0]) == 1:
            raise UserError(
                "upernet must be trained on two images a batch or more, whose pooled means it normalises, "
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
        """The weight of each position in the mean of each cell: ``(cells, size)``."""
        cell = torch.arange(self.cells, device=like.device)[:, None]
        position = torch.arange(size, device=like.device)
        first, end = cell * size // self.cells, -(-(cell + 1) * size // self.cells)
        inside = ((position >= first) & (position < end)).to(like.dtype)
        return inside / inside.sum(1, keepdim=True)
