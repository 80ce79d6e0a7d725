# SPDX-License-Identifier: Apache-2.0
"""Patches: from an image to a map, and from a map to one of half the side."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.layers.channels_first import channels_first
from slideformer.layers.map_checks import check_map
from slideformer.layers.open_size import open_size


def pad_to_multiple(x: Tensor, multiple: int, value: float = 0.0) -> Tensor:
    """Append rows and columns until both sides are multiples: ``(B, H, W, C) -> (B, H', W', C)``."""
    # Complete tiles first, so that a symbolic size is seen to be divisible without a guard; and only positive
    # numbers, because ONNX rounds a negative quotient towards zero.
    rows, columns = ((size + multiple - 1) // multiple * multiple - size for size in x.shape[1:3])
    if open_size(rows, columns) or rows or columns:
        x = F.pad(x, (0, 0, 0, columns, 0, rows), value=value)
    return x


def strided_convolution(
    dim: int,
    out_dim: int,
    stride: int,
    kernel_size: int | None,
    *,
    padding: int | None = None,
    bias: bool = True,
) -> nn.Conv2d:
    """A convolution that gives one position for each stride; its kernels may overlap.

    Args:
        dim: channels in.
        out_dim: channels out.
        stride: positions from one kernel to the next.
        kernel_size: None for the stride.
        padding: zeros on every side; None for so many that the first kernel ends where a first stride does.
        bias: whether it has one.

    Raises:
        ValueError: the kernel is smaller than the stride, or as large as two, or the padding makes more or
            fewer positions than there are strides.
    """
    kernel_size = stride if kernel_size is None else kernel_size
    if not stride <= kernel_size < 2 * stride:
        raise ValueError(f"kernel_size must be from {stride} to {2 * stride - 1}, got {kernel_size}")
    padding = kernel_size - stride if padding is None else padding
    least = (kernel_size - stride + 1) // 2
    if not least <= padding <= (kernel_size - 1) // 2:
        raise ValueError(f"padding must be from {least} to {(kernel_size - 1) // 2}, got {padding}")
    return nn.Conv2d(dim, out_dim, kernel_size, stride, padding, bias=bias)


def check_image(image: Tensor, channels: int) -> None:
    """Check that a tensor is an image with so many channels."""
    if image.ndim != 4 or image.shape[1] != channels:
        raise ValueError(
            f"an image must be (B, {channels}, height, width), got {tuple(image.shape)}; "
            "add the batch, or build the model with in_chans"
        )
    if image.shape[2] == 0 or image.shape[3] == 0:
        raise ValueError(f"an image must have at least one pixel, got {tuple(image.shape)}")


class PatchEmbed(nn.Module):
    """Split an image into patches, project each one to C channels and normalise.

    An image whose sides are not multiples of the patch is padded with zeros on the right and at the bottom.
    With a larger kernel patches overlap (PVTv2: Wang et al., 2022), and zeros surround the image.

    Args:
        in_chans: channels of the image.
        dim: channels C of the map.
        patch_size: side of a patch, in pixels: the distance from one to the next.
        kernel_size: side of the square that is projected, less than two patches; None for a patch.
        padding: zeros around the image; None for the excess of the kernel over a patch.
        norm_layer: builds the normalisation from its number of channels.

    Shape: ``(B, in_chans, height, width) -> (B, H, W, C)``, any size but an empty one.

    Raises:
        ValueError: a size is less than 1, the kernel is smaller than a patch or as large as two, or the
            padding does not fit it; on a call, the image has another rank, other channels or no pixels.
    """

    def __init__(
        self,
        in_chans: int,
        dim: int,
        patch_size: int,
        *,
        kernel_size: int | None = None,
        padding: int | None = None,
        norm_layer: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        if min(in_chans, dim, patch_size) < 1:
            raise ValueError(
                f"in_chans, dim and patch_size must be at least 1, got {in_chans}, {dim} and {patch_size}"
            )
        self.patch_size = patch_size
        self.proj = strided_convolution(in_chans, dim, patch_size, kernel_size, padding=padding)
        self.norm = norm_layer(dim)

    def forward(self, image: Tensor) -> Tensor:
        """Embed: ``(B, in_chans, height, width) -> (B, H, W, C)``."""
        # Read from the weight: timm replaces the first convolution to change the number of channels.
        check_image(image, self.proj.weight.shape[1])
        pixels = pad_to_multiple(image.permute(0, 2, 3, 1), self.patch_size)
        return self.norm(self.proj(channels_first(pixels)).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Merge every 2 x 2 neighbours into one position (Swin): normalise their 4 C channels and project them.

    A map with an odd side is padded with zeros on the right and at the bottom.

    Args:
        dim: channels C of the map.
        out_dim: channels C' of the merged map.
        norm_layer: builds the normalisation from its number of channels.

    Shape: ``(B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), C')``.

    Raises:
        ValueError: a size is less than 1; on a call, ``x`` is not a map of C channels.
    """

    def __init__(
        self, dim: int, out_dim: int, *, norm_layer: Callable[[int], nn.Module] = nn.LayerNorm
    ) -> None:
        super().__init__()
        if dim < 1 or out_dim < 1:
            raise ValueError(f"dim and out_dim must be at least 1, got {dim} and {out_dim}")
        self.dim = dim
        self.norm = norm_layer(4 * dim)
        self.reduction = nn.Linear(4 * dim, out_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Merge: ``(B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), C')``."""
        check_map(x, self.dim)
        x = pad_to_multiple(x, 2)
        batch, height, width, channels = x.shape
        # The four neighbours in Swin's order: down the first column, then down the second.
        x = x.reshape(batch, height // 2, 2, width, channels).transpose(2, 3)
        x = x.reshape(batch, height // 2, width // 2, 4 * channels)
        return self.reduction(self.norm(x))


class ConvMerging(nn.Module):
    """Halve the sides of a map by a strided convolution, then normalise.

    PVT's has a kernel of 2, PVTv2's an overlapping one of 3. A map with an odd side is padded with zeros on
    the right and at the bottom.

    Args:
        dim: channels C of the map.
        out_dim: channels C' of the merged map.
        kernel_size: 2 or 3.
        bias: whether the convolution has one.
        norm_layer: builds the normalisation from its number of channels.

    Shape: ``(B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), C')``.

    Raises:
        ValueError: a size is less than 1, or another kernel; on a call, ``x`` is not a map of C channels.
    """

    def __init__(
        self,
        dim: int,
        out_dim: int,
        kernel_size: int,
        *,
        bias: bool = True,
        norm_layer: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        if dim < 1 or out_dim < 1:
            raise ValueError(f"dim and out_dim must be at least 1, got {dim} and {out_dim}")
        self.dim = dim
        self.proj = strided_convolution(dim, out_dim, 2, kernel_size, bias=bias)
        self.norm = norm_layer(out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Merge: ``(B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), C')``."""
        check_map(x, self.dim)
        x = pad_to_multiple(x, 2)
        return self.norm(self.proj(channels_first(x)).permute(0, 2, 3, 1))
