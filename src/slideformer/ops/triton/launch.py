# SPDX-License-Identifier: Apache-2.0
"""A launch that is resolved once: what takes Triton tens of microseconds is done for the first call alone.

The first call goes through Triton, which tunes and compiles; what it compiled is held, and later calls hand
it nothing but the addresses of their tensors. A launch is made for certain shapes, strides and dtypes; what
else Triton compiles for, it looks at in every call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from triton.compiler import CompiledKernel

from slideformer.ops.triton.tuning import CONSTANTS

# Triton's tuner keeps what it tunes in attributes of its own.
TUNING = threading.RLock()
# Kernels are compiled for addresses that are multiples of this, in bytes, or for any.
ALIGNMENT = 16
# On AMD's GPUs also for tensors whose offsets in bytes fit into 32 bits.
SMALL = 2**31 - 1
RANGES = torch.version.hip is not None

Grid = Callable[[dict[str, int]], tuple[int, ...]]


def kinds_of(tensors: tuple[Tensor | None, ...]) -> tuple[Any, ...]:
    """Properties of tensors that Triton compiles for, besides their dtypes."""
    aligned = tuple([None if x is None else x.data_ptr() % ALIGNMENT == 0 for x in tensors])
    if not RANGES:
        return aligned
    return (*aligned, *(x is None or x.untyped_storage().nbytes() <= SMALL for x in tensors))


class Launch:
    """A launch of a kernel for which everything but the tensors is decided.

    Args:
        kernel: the kernel, tuned or not.
        grid: the programs, from the constants that tuning chooses.
        given: all arguments that are not tensors, by name, and the options of the compiler.
    """

    def __init__(self, kernel: Any, grid: Grid, **given: Any) -> None:
        self.kernel, self.grid, self.given = kernel, grid, given
        names = kernel.arg_names
        # Constants are part of what is compiled: a held kernel reads nothing in their place.
        self.arguments = [given.get(name) for name in names]
        self.places = [i for i, name in enumerate(names) if name not in given and name not in CONSTANTS]
        self.held: dict[tuple[Any, ...], Callable[..., None]] = {}

    def __call__(self, *tensors: Tensor | None) -> None:
        """Launch the kernel with its tensors, in the order of its arguments."""
        kinds = kinds_of(tensors)
        run = self.held.get(kinds)
        if run is None:
            self.first(tensors, kinds)
            return
        arguments = self.arguments.copy()
        for place, x in zip(self.places, tensors, strict=True):
            arguments[place] = x
        run(*arguments)

    def first(self, tensors: tuple[Tensor | None, ...], kinds: tuple[Any, ...]) -> None:
        """Launch the kernel through Triton, and hold what it compiled."""
        size: tuple[int, ...] = ()

        def grid(constants: dict[str, int]) -> tuple[int, ...]:
            nonlocal size
            size = self.grid(constants)
            return size

        names = (self.kernel.arg_names[place] for place in self.places)
        with TUNING:
            compiled = self.kernel[grid](**dict(zip(names, tensors, strict=True)), **self.given)
        # The interpreter compiles nothing.
        if isinstance(compiled, CompiledKernel):
            self.held[kinds] = compiled[(*size, 1, 1)[:3]]
