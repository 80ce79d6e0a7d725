# SPDX-License-Identifier: Apache-2.0
"""The launches that calls of one kind share, made once and held.

A kind is what launches depend on: the shapes, strides and dtypes of the tensors, the device and the options.
A plan holds none of the tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from slideformer.ops.call import Call
from slideformer.ops.flat import COUNT
from slideformer.ops.triton import tuning
from slideformer.ops.triton.devices import processors
from slideformer.ops.triton.forward_deformed import pack_shift
from slideformer.ops.triton.launch import Launch
from slideformer.ops.triton.sizes import OPTIONS, Sizes
from slideformer.ops.window import Window

# Plans that are held: more than the kinds of calls of any model, few enough to forget those of single images.
MOST = 2048
# Programs a multiprocessor that share the sum of the shift's gradient, and numbers of all shares, at most.
PROGRAMS, SHARES = 4, 2**24
# As large as any tile that tuning compares: no program is without one.
LARGEST, LONGEST = {"BLOCK_H": 8, "BLOCK_W": 16}, {"BLOCK_H": 1, "BLOCK_W": 128}
# Shape, strides and dtype.
Described = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]


class Plan:
    """The launches for one kind of call, each made when it is first needed.

    Args:
        call: a call of this kind, or a half of the operator, on the device "meta".
        grad: the gradient of its output, or None; of a half, what the gradient of its map sums.
        device: where it runs.
        excludes: whether taps outside the map are left out where the border says so.
    """

    def __init__(self, call: Call, grad: Tensor | None, device: torch.device, *, excludes: bool) -> None:
        self.sizes = sizes = Sizes.of(call, device)
        self.relative = sizes.relative(call.logit_bias)
        self.launches: dict[int, Launch] = {}
        maps = {"query": call.query, "key": call.key, "value": call.value, "grad": grad}
        key_bias = call.shift_bias is not None or call.key_bias is not None
        # Each kernel takes what it has a name for.
        self.constants = {
            **{f"{name}_strides": sizes.strides(x) for name, x in maps.items() if x is not None},
            **sizes.map(),
            **(sizes.deformed() if call.deformed else sizes.plain()),
            "scale": call.scale,
            "RELATIVE": self.relative,
            "EXCLUDES": excludes and sizes.excludes(call.key_mask),
            "KEY_BIAS": key_bias,
            "VALUE_BIAS": call.shift_bias is not None,
        }
        self.grids: dict[int, Any] = {}
        if call.deformed:
            heads, taps = sizes.shape[4], sizes.window.taps
            self.packed_shape = taps + 1 + heads, sizes.chunks * sizes.chunk, sizes.taps_padded
            self.grids[id(pack_shift)] = lambda constants: (self.packed_shape[0], sizes.chunks)
            self.share_shift()

    def share_shift(self) -> None:
        """Decide how programs share the sum of the shift's gradient."""
        sizes = self.sizes
        batch, depth, height, *_ = sizes.shape
        matrices = sizes.window.taps + 1, sizes.taps_padded, sizes.chunks * sizes.chunk
        # Whole waves: a last one of few programs would take as long as the others.
        waves = PROGRAMS * processors(sizes.device)
        fitting = max(1, SHARES // math.prod(matrices))
        parts = min(waves, fitting, sizes.programs(LONGEST if height == 1 else LARGEST))
        self.shares_shape = parts, *matrices
        self.constants |= {"tiles": batch * depth, "parts": parts}
        self.grids[id(tuning.BACKWARD_MAP_DEFORMED)] = lambda constants: (parts,)

    def run(self, kernel: Any, *tensors: Tensor | None) -> None:
        """Launch a kernel with its tensors, in the order of its arguments."""
        launch = self.launches.get(id(kernel))
        if launch is None:
            given = {name: x for name, x in self.constants.items() if name in kernel.arg_names} | OPTIONS
            launch = Launch(kernel, self.grids.get(id(kernel), self.sizes.grid), **given)
            self.launches[id(kernel)] = launch
        launch(*tensors)


def plan_for(arguments: Sequence[Any], grad: Tensor | None = None, *, excludes: bool = True) -> Plan:
    """The plan of a call, given as flat arguments."""
    described = tuple([
        None if x is None else (x.shape, x.stride(), x.dtype) for x in (grad, *arguments[:COUNT])
    ])  # fmt: skip
    kernel_size, dilation, border, scale = arguments[COUNT:]
    window = tuple(kernel_size), tuple(dilation), tuple(border)
    return plan_of(described, window, scale, arguments[0].device, excludes)


@lru_cache(maxsize=MOST)
def plan_of(
    described: tuple[Described | None, ...],
    window: tuple[Any, ...],
    scale: float,
    device: torch.device,
    excludes: bool,
) -> Plan:
    """The plan of tensors that are described."""
    grad, *tensors = (
        None if x is None else torch.empty_strided(x[0], x[1], dtype=x[2], device="meta") for x in described
    )
    return Plan(Call.of(tensors, Window(*window), scale), grad, device, excludes=excludes)
