# SPDX-License-Identifier: Apache-2.0
"""A stem of convolutions, each of which halves the side of the image."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from slideformer.layers.channels_first import channels_first
from slideformer.layers.patch import check_image, pad_to_multiple


class ConvStem(nn.Module):
    """Convolutions of kernel 3 and stride 2, one after the other, then a norm (NAT: Hassani et al., 2023).

    An image with an odd side is padded with zeros on the right or at the bottom.

    Args:
        in_chans: channels of the image.
        dim: channels C of the map; every convolution before the last has half of those of the next.
        patch_size: pixels a side that one position stands for, a power of two.
        norm_layer: builds the normalisation from its number of channels.

    Shape: ``(B, in_chans, height, width) -> (B, H, W, C)``, any size but an empty one.

    Raises:
        ValueError: a size is less than 1, ``patch_size`` is not a power of two, or C is not divisible often
            enough; on a call, the image has another rank, other channels or no pixels.
    """

    def __init__(
        self,
        in_chans: int,
        dim: int,
        patch_size: int = 4,
        *,
        norm_layer: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        if in_chans < 1 or dim < 1:
            raise ValueError(f"in_chans and dim must be at least 1, got {in_chans} and {dim}")
        if patch_size < 2 or patch_size & (patch_size - 1):
            raise ValueError(f"patch_size must be a power of two, got {patch_size}")
        if dim % (patch_size // 2):
            raise ValueError(f"dim must be a multiple of {patch_size // 2}, half of patch_size, got {dim}")
        halvings = patch_size.bit_length() - 1
        dims = [in_chans, *(dim >> step for step in reversed(range(halvings)))]
        self.proj = nn.Sequential(*(nn.Conv2d(*pair, 3, stride=2, padding=1) for pair in pairwise(dims)))
        self.norm = norm_layer(dim)

    def forward(self, image: Tensor) -> Tensor:
        """Embed: ``(B, in_chans, height, width) -> (B, H, W, C)``."""
        # Read from the weight: timm replaces the first convolution to change the number of channels.
        first = self.proj[0]
        assert isinstance(first, nn.Conv2d)
        check_image(image, first.weight.shape[1])
        x = image.permute(0, 2, 3, 1)
        for convolution in self.proj:
            # The convolution would add these zeros; so an exported program divides an even side exactly.
            x = convolution(channels_first(pad_to_multiple(x, 2))).permute(0, 2, 3, 1)
        return self.norm(x)
