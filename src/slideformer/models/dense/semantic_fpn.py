# SPDX-License-Identifier: Apache-2.0
"""The head of Semantic FPN (Kirillov et al., 2019): a feature pyramid, brought to one size and summed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.misc import Conv2dNormActivation


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
