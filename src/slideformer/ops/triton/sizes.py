# SPDX-License-Identifier: Apache-2.0
"""The sizes that the kernels are compiled for, and the grid of their launches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from slideformer.ops.call import Call
from slideformer.ops.triton import INTERPRETED
from slideformer.ops.triton.devices import float32_precision
from slideformer.ops.triton.tuning import TILE
from slideformer.ops.window import BORDERS, Border, Window

# Axes of a map as the kernels take it: planes, rows, columns.
AXES = 3
# A future release of Triton changes this default.
OPTIONS = {"enable_fp_fusion": True}


def ceil_div(x: int, y: int) -> int:
    """Quotient, rounded up; Triton's own takes microseconds."""
    return -(-x // y)


def power_of_2(x: int) -> int:
    """The smallest power of two that is not less."""
    return 1 << (x - 1).bit_length()


def compile_time(numbers: Sequence[int]) -> tuple[Any, ...]:
    """Numbers of a tuple that a kernel is compiled for; the interpreter takes them as they are."""
    return tuple(numbers) if INTERPRETED else tuple(map(tl.constexpr, numbers))


@dataclass(frozen=True)
class Sizes:
    """The sizes that all launches of one call share, of a map and a window of three axes.

    A map of fewer axes has first ones of one position, along which the window has one tap.
    """

    shape: tuple[int, ...]  # (B, Z, H, W, G, D)
    value_channels: int
    window: Window
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, call: Call, device: torch.device) -> Sizes:
        """The sizes of a call, or of a half of one, that runs on this device."""
        # Of a half, one map has no channels; its query may be weights.
        x = call.query if call.key.shape[-1] > 0 else call.value
        batch, *size, heads, channels = x.shape
        ones = (1,) * (AXES - len(size))
        borders: tuple[Border, ...] = tuple("zeros" for _ in ones)
        window = call.window
        window = Window((*ones, *window.kernel_size), (*ones, *window.dilation), (*borders, *window.border))
        shape = (batch, *ones, *size, heads, channels)
        return cls(shape, call.value.shape[-1], window, x.dtype, device)

    def strides(self, x: Tensor) -> tuple[Any, ...]:
        """Strides of a map, (B, Z, H, W, G, D).

        Where the channels of a position are together in memory, the strides within a row are constants: they
        depend on the channels of a model, not on the size of its maps, and a kernel that knows them has less
        to compute for each tap.
        """
        batch, *others = x.stride()
        strides = (batch, *(0,) * (len(self.shape) - x.ndim), *others)
        position, head, channel = strides[AXES:]
        together = channel == 1 and channel <= head <= position
        return (*strides[:AXES], *compile_time(strides[AXES:])) if together else strides

    @property
    def axes(self) -> tuple[tuple[int, int, int], ...]:
        """Kernel size, dilation and number of the border of each axis, as the kernels take them."""
        # However large, a dilation beyond the map reads only what is outside; one tap is its own position.
        return tuple(
            (1, 1, 0) if axis.kernel_size == 1
            else (axis.kernel_size, min(axis.dilation, axis.size), BORDERS.index(axis.border))
            for axis in self.window.axes(self.shape[1:4])
        )  # fmt: skip

    @property
    def clamps(self) -> bool:
        """Whether the window slides inward along an axis."""
        return any(BORDERS[border] == "clamp" for _, _, border in self.axes)

    def excludes(self, key_mask: Tensor | None) -> bool:
        """Whether taps may have to be left out."""
        return key_mask is not None or any(BORDERS[x] in ("mask", "clamp") for _, _, x in self.axes)

    @property
    def tile(self) -> dict[str, int]:
        """The tile of programs that store shares of a sum."""
        return {"BLOCK_H": 1, "BLOCK_W": math.prod(TILE.values())} if self.shape[2] == 1 else TILE

    @property
    def taps_padded(self) -> int:
        """Taps as the matrix unit takes them."""
        return max(16, power_of_2(self.window.taps))

    @property
    def chunk(self) -> int:
        """Channels of one matrix product."""
        return 16 if self.shape[5] <= 16 else 32

    @property
    def chunks(self) -> int:
        """Matrix products that cover all channels."""
        return ceil_div(self.shape[5], self.chunk)

    @property
    def turn(self) -> bool:
        """Whether a thread's loads fit the matrix unit after `taps.turned`."""
        return self.chunk == 32 and self.dtype.itemsize == 2

    @property
    def precision(self) -> str:
        """Precision of products on matrix units."""
        return float32_precision() if self.dtype == torch.float32 else "ieee"

    def map(self) -> dict[str, Any]:
        """The map's sizes, and a class of sizes for which one configuration is good."""
        _, depth, height, width, heads, _ = self.shape
        size_class = (depth * height * width).bit_length()
        # The tiles of a map of one row are others.
        size_class = -size_class if height == 1 else size_class
        return {"depth": depth, "height": height, "width": width, "heads": heads, "size_class": size_class}

    def relative(self, logit_bias: Tensor | None) -> bool:
        """Whether there is a logit bias by position relative to the query, and not by tap."""
        return logit_bias is not None and tuple(logit_bias.shape[1:]) != (self.window.taps,)

    def constants(self) -> dict[str, Any]:
        """Window and channels."""
        axes = tuple(map(compile_time, self.axes))
        return {"D": self.shape[5], "T": self.window.taps, "AXES": axes, "CLAMPS": self.clamps}

    def plain(self) -> dict[str, Any]:
        """Constants of the kernels without a deformed shift."""
        blocks = {"BLOCK": power_of_2(self.shape[5]), "BLOCK_V": power_of_2(self.value_channels)}
        return {**self.constants(), **blocks, "DV": self.value_channels}

    def deformed(self) -> dict[str, Any]:
        """Constants of the kernels for a deformed shift."""
        return {
            **self.constants(), "T_PAD": self.taps_padded, "CHUNKS": self.chunks, "BLOCK": self.chunk,
            "TURN": self.turn, "PRECISION": self.precision,
        }  # fmt: skip

    def programs(self, tile: dict[str, int]) -> int:
        """Programs that cover every position and head."""
        batch, depth, height, width, heads, _ = self.shape
        return batch * depth * heads * ceil_div(height, tile["BLOCK_H"]) * ceil_div(width, tile["BLOCK_W"])

    def grid(self, tile: dict[str, int]) -> tuple[int]:
        """The launch's grid."""
        return (self.programs(tile),)
