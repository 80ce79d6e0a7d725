# SPDX-License-Identifier: Apache-2.0
"""The launches of a forward pass: sizes that the kernels are compiled for, tiles, and the tuning list."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
from torch import Tensor

from slideformer.ops.call import Call
from slideformer.ops.triton import INTERPRETED
from slideformer.ops.triton.backward_deformed import backward_map_deformed, backward_query_deformed
from slideformer.ops.triton.backward_plain import backward_map_plain, backward_query_plain, gather_plain
from slideformer.ops.triton.forward_deformed import (
    forward_deformed,
    logits_deformed,
    pack_shift,
    values_deformed,
)
from slideformer.ops.triton.forward_plain import forward_plain, logits_plain, values_plain
from slideformer.ops.window import Border, Window

# Tiles of positions (rows, columns) and the warps that share one. 16 positions a warp leave each thread
# the registers that a tile of 32 channels takes.
TILES = ((4, 8, 2), (8, 8, 4), (4, 16, 4), (8, 16, 8))
# Each warp loads the shift again: more positions a warp, where they fit, load it less often.
DEFORMED_TILES = (*TILES, (4, 8, 1), (8, 8, 2), (8, 16, 4))
# Nothing but loads and sums: more warps hide more of the memory's latency.
PLAIN_TILES = (*TILES, (4, 8, 4), (8, 8, 8))
# Where shares of a sum are stored by program, the tile is given and only the warps are tuned.
TILE = {"BLOCK_H": 8, "BLOCK_W": 8}
DEFORMED_WARPS = ((8, 8, 4), (8, 8, 2))
PLAIN_WARPS = ((8, 8, 4), (8, 8, 8))
# Programs that share the sum of the shift's gradient: enough to fill a large GPU, few enough to add up.
PARTS = 96
# Axes of a map as the kernels take it: planes, rows, columns.
AXES = 3
# A future release of Triton changes this default.
OPTIONS = {"enable_fp_fusion": True}
# Numbers of one map's tile that a thread may hold before registers spill, as the assembler says: more
# where they are packed in pairs and the logits are few.
TILE_NUMBERS = 16
PACKED_TILE_NUMBERS = 32


def affordable(configs: list[Any], arguments: dict[str, Any], **options: Any) -> list[Any]:
    """The configurations whose tiles fit the map and the registers, or the one that comes closest."""
    configs = [config for config in configs if (config.kwargs["BLOCK_H"] == 1) == (options["height"] == 1)]
    packed = options.get("TURN", False) and options["T_PAD"] == 16
    most = PACKED_TILE_NUMBERS if packed else TILE_NUMBERS

    def held(config: Any) -> float:
        positions = config.kwargs["BLOCK_H"] * config.kwargs["BLOCK_W"]
        return positions * options["BLOCK"] / (32 * config.num_warps)

    fitting = [config for config in configs if held(config) <= most]
    return fitting if fitting else [min(configs, key=held)]


def tuned(kernel: Any, tiles: tuple[tuple[int, int, int], ...]) -> Any:
    """The kernel, tuned at the first call for each size of head, window and map."""
    # The interpreter has no time to compare.
    tiles = tiles[:1] if INTERPRETED else tiles
    # A map of one row is cut along it.
    lines = ((1, rows * columns, warps) for rows, columns, warps in tiles)
    configs = [
        triton.Config(
            {
                "BLOCK_H": rows,
                "BLOCK_W": columns,
                **({"WARPS": warps} if "WARPS" in kernel.arg_names else {}),
            },
            num_warps=warps,
            num_stages=1,
        )
        for rows, columns, warps in dict.fromkeys((*tiles, *lines))
    ]
    key = [name for name in ("D", "DV", "AXES", "size_class") if name in kernel.arg_names]
    return triton.autotune(configs, key=key, prune_configs_by={"early_config_prune": affordable})(kernel)


FORWARD_PLAIN = tuned(forward_plain, PLAIN_TILES)
FORWARD_DEFORMED = tuned(forward_deformed, DEFORMED_TILES)
BACKWARD_QUERY_PLAIN = tuned(backward_query_plain, PLAIN_WARPS)
BACKWARD_QUERY_DEFORMED = tuned(backward_query_deformed, DEFORMED_WARPS)
BACKWARD_MAP_PLAIN = tuned(backward_map_plain, PLAIN_TILES)
BACKWARD_MAP_DEFORMED = tuned(backward_map_deformed, DEFORMED_TILES)
LOGITS_PLAIN = tuned(logits_plain, PLAIN_TILES)
LOGITS_DEFORMED = tuned(logits_deformed, DEFORMED_TILES)
VALUES_PLAIN = tuned(values_plain, PLAIN_TILES)
VALUES_DEFORMED = tuned(values_deformed, DEFORMED_TILES)
GATHER_PLAIN = tuned(gather_plain, PLAIN_TILES)


@dataclass(frozen=True)
class Sizes:
    """The sizes that all launches of one call share, of a map and a window of three axes.

    A map of fewer axes has first ones of one position, along which the window has one tap.
    """

    shape: tuple[int, ...]  # (B, Z, H, W, G, D)
    value_channels: int
    window: Window
    dtype: torch.dtype

    @classmethod
    def of(cls, call: Call) -> Sizes:
        """The sizes of a call."""
        return replace(cls.over(call.query, call.window), value_channels=call.value.shape[-1])

    @classmethod
    def over(cls, x: Tensor, window: Window) -> Sizes:
        """The sizes of a window over a map that is all there is."""
        batch, *size, heads, channels = x.shape
        ones = (1,) * (AXES - len(size))
        borders: tuple[Border, ...] = tuple("zeros" for _ in ones)
        window = Window((*ones, *window.kernel_size), (*ones, *window.dilation), (*borders, *window.border))
        shape = (batch, *ones, *size, heads, channels)
        return cls(shape, channels, window, x.dtype)

    def strides(self, x: Tensor) -> tuple[int, ...]:
        """Strides of a map, (B, Z, H, W, G, D)."""
        batch, *others = x.stride()
        return (batch, *(0,) * (len(self.shape) - x.ndim), *others)

    @property
    def axes(self) -> tuple[tuple[int, int, str], ...]:
        """Kernel size, dilation and border of each axis, as the kernels take them."""
        # However large, a dilation beyond the map reads only what is outside; one tap is its own position.
        return tuple(
            (1, 1, "zeros") if axis.kernel_size == 1
            else (axis.kernel_size, min(axis.dilation, axis.size), axis.border)
            for axis in self.window.axes(self.shape[1:4])
        )  # fmt: skip

    @property
    def clamps(self) -> bool:
        """Whether the window slides inward along an axis."""
        return any(border == "clamp" for _, _, border in self.axes)

    def excludes(self, key_mask: Tensor | None) -> bool:
        """Whether taps may have to be left out."""
        return key_mask is not None or any(border in ("mask", "clamp") for _, _, border in self.axes)

    @property
    def tile(self) -> dict[str, int]:
        """The tile of programs that store shares of a sum."""
        return {"BLOCK_H": 1, "BLOCK_W": math.prod(TILE.values())} if self.shape[2] == 1 else TILE

    @property
    def taps_padded(self) -> int:
        """Taps as the matrix unit takes them."""
        return max(16, triton.next_power_of_2(self.window.taps))

    @property
    def chunk(self) -> int:
        """Channels of one matrix product."""
        return 16 if self.shape[5] <= 16 else 32

    @property
    def chunks(self) -> int:
        """Matrix products that cover all channels."""
        return triton.cdiv(self.shape[5], self.chunk)

    @property
    def turn(self) -> bool:
        """Whether a thread's loads fit the matrix unit after `taps.turned`."""
        return self.chunk == 32 and self.dtype.itemsize == 2

    @property
    def precision(self) -> str:
        """Precision of float32 on matrix units: three products of parts keep it."""
        return "tf32x3" if self.dtype == torch.float32 else "ieee"

    def map(self) -> dict[str, Any]:
        """The map's sizes, a class of sizes for which one configuration is good, and the options."""
        _, depth, height, width, heads, _ = self.shape
        size_class = (depth * height * width).bit_length()
        return {
            "depth": depth, "height": height, "width": width, "heads": heads,
            # The tiles of a map of one row are others.
            "size_class": -size_class if height == 1 else size_class, **OPTIONS,
        }  # fmt: skip

    def constants(self) -> dict[str, Any]:
        """Window and channels."""
        return {"D": self.shape[5], "AXES": self.axes}

    def relative(self, logit_bias: Tensor | None) -> bool:
        """Whether there is a logit bias by position relative to the query, and not by tap."""
        return logit_bias is not None and tuple(logit_bias.shape[1:]) != (self.window.taps,)

    def half(self) -> dict[str, Any]:
        """Constants of the kernels for a half of the operator without a deformed shift."""
        return {**self.constants(), "BLOCK": triton.next_power_of_2(self.shape[5])}

    def plain(self, logit_bias: Tensor | None) -> dict[str, Any]:
        """Constants of the kernels without a deformed shift."""
        return {
            **self.half(),
            "DV": self.value_channels,
            "RELATIVE": self.relative(logit_bias),
            "BLOCK_V": triton.next_power_of_2(self.value_channels),
        }

    def deformed(self) -> dict[str, Any]:
        """Constants of the kernels for a deformed shift."""
        return {
            **self.constants(),
            "T_PAD": self.taps_padded,
            "CHUNKS": self.chunks,
            "BLOCK": self.chunk,
            "PRECISION": self.precision,
        }

    def programs(self, tile: dict[str, int]) -> int:
        """Programs that cover every position and head."""
        batch, depth, height, width, heads, _ = self.shape
        return (
            batch * depth * heads * triton.cdiv(height, tile["BLOCK_H"]) * triton.cdiv(width, tile["BLOCK_W"])
        )

    def grid(self, tile: dict[str, int]) -> tuple[int]:
        """The launch's grid."""
        return (self.programs(tile),)


def dense(x: Tensor | None) -> Tensor | None:
    """A parameter as the kernels read it; they are small."""
    return None if x is None else x.contiguous()


def bytes_of(mask: Tensor | None) -> Tensor | None:
    """A mask as the kernels read it."""
    return None if mask is None else mask.contiguous().view(torch.uint8)


def packed_shift(call: Call, sizes: Sizes) -> Tensor:
    """The shift as the kernels read it: (T + 1 + G, D', T'), see `pack_shift`."""
    assert call.shift_weight is not None
    taps, heads, channels = sizes.window.taps, *sizes.shape[4:]
    shape = (taps + 1 + heads, sizes.chunks * sizes.chunk, sizes.taps_padded)
    packed = call.query.new_empty(shape, dtype=sizes.dtype)
    pack_shift[(len(packed), sizes.chunks)](
        dense(call.shift_weight), dense(call.shift_bias), dense(call.key_bias), packed, channels, taps,
        BLOCK=sizes.chunk, T_PAD=sizes.taps_padded, TURN=sizes.turn, **OPTIONS,
    )  # fmt: skip
    return packed


def biases(call: Call) -> dict[str, bool]:
    """Flags of the packed biases that are not zero."""
    shifted = call.shift_bias is not None
    return {"KEY_BIAS": shifted or call.key_bias is not None, "VALUE_BIAS": shifted}


def forward_into(output: Tensor, log_sum: Tensor, call: Call) -> None:
    """Compute a call; ``log_sum`` is not touched where the shift is deformed."""
    sizes = Sizes.of(call)
    logit_bias = dense(call.logit_bias)
    maps = [y for x in (call.query, call.key, call.value) for y in (x, sizes.strides(x))]
    if call.deformed:
        FORWARD_DEFORMED[sizes.grid](
            *maps, packed_shift(call, sizes), logit_bias, output, **sizes.map(), scale=call.scale,
            **sizes.deformed(), TURN=sizes.turn, **biases(call),
        )  # fmt: skip
        return
    FORWARD_PLAIN[sizes.grid](
        *maps, bytes_of(call.key_mask), dense(call.shift_bias), dense(call.key_bias), logit_bias,
        output, log_sum, **sizes.map(), scale=call.scale, **sizes.plain(logit_bias),
        EXCLUDES=sizes.excludes(call.key_mask),
    )  # fmt: skip
