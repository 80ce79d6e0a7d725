# SPDX-License-Identifier: Apache-2.0
"""One size of the operator with its tensors, which every form of it receives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from slideformer.bench.candidate import Setting
from slideformer.ops import checks
from slideformer.ops.window import Border, Window

# One number for all axes, or one an axis in words, such as 16x56x56.
Sides = int | str
# A tenth of the keys does not exist where they are masked.
MASKED = 0.1


def sides(given: Sides, axes: int = 2) -> tuple[int, ...]:
    """The length along each axis, where one number is of so many axes."""
    return (given,) * axes if isinstance(given, int) else tuple(map(int, given.split("x")))


@dataclass(frozen=True)
class Problem:
    """One size of the operator, or of a layer around it.

    Attributes:
        batch: B.
        size: side of the square map, or each axis of a map of one to three.
        heads: G.
        head_dim: D.
        kernel_size: K, one for all axes or one an axis.
        deformed: whether there is a learned shift.
        border: of our own backends and of other libraries, one for all axes or one an axis; the forms by
            convolution and by Im2Col know zeros only.
    """

    batch: int = 8
    size: Sides = 56
    heads: int = 3
    head_dim: int = 32
    kernel_size: Sides = 3
    deformed: bool = True
    border: Border | tuple[Border, ...] = "zeros"

    @property
    def map_size(self) -> tuple[int, ...]:
        """Positions along each axis of the map."""
        return sides(self.size)

    @property
    def window(self) -> Window:
        """Kernel size and border of each axis.

        Raises:
            ValueError: they do not fit each other or the map.
        """
        axes = len(self.map_size)
        window = checks.window(sides(self.kernel_size, axes), 1, self.border, axes=axes)
        checks.periodic(window, self.map_size)
        return window

    @property
    def dim(self) -> int:
        """Channels C of a map."""
        return self.heads * self.head_dim

    @property
    def taps(self) -> int:
        """Taps T of a window."""
        return self.window.taps

    @property
    def positions(self) -> int:
        """Positions N of one map."""
        return math.prod(self.map_size)

    @property
    def map_numbers(self) -> int:
        """Numbers of one map, of all the batch."""
        return self.batch * self.positions * self.dim

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of a forward pass: 2 T a channel, for logits and output; 2 T T more if deformed."""
        return 2 * self.map_numbers * (self.taps + self.taps**2 * self.deformed)


@dataclass(frozen=True)
class Tensors:
    """Arguments of a call.

    Attributes:
        query: ``(B, *map, G, D)``, as key and value are.
        key: likewise.
        value: likewise.
        learned: the learned shift ``(D, T, T)``, or None.
        key_mask: ``(B, *map)``, which keys exist, for those who ask.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    learned: Tensor | None
    key_mask: Tensor

    @classmethod
    def of(cls, problem: Problem, setting: Setting) -> Tensors:
        """Random numbers, the same at every call; each tensor but the mask requires its gradient."""
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int, dtype: torch.dtype = setting.dtype, scale: float = 1.0) -> Tensor:
            numbers = torch.randn(shape, generator=generator) * scale
            return numbers.to(setting.device, dtype).requires_grad_()

        places = (problem.batch, *problem.map_size)
        maps = [random(*places, problem.heads, problem.head_dim) for _ in range(3)]
        taps, learned = problem.taps, None
        if problem.deformed:
            learned = random(problem.head_dim, taps, taps, dtype=torch.float32, scale=taps**-0.5)
        key_mask = torch.rand(places, generator=generator) >= MASKED
        return cls(maps[0], maps[1], maps[2], learned, key_mask.to(setting.device))

    def all(self) -> list[Tensor]:
        """All tensors that have gradients."""
        return [x for x in (self.query, self.key, self.value, self.learned) if x is not None]

    def detached(self) -> Tensors:
        """The same without gradients, for libraries that reject tensors which require them."""
        query, key, value = (x.detach() for x in (self.query, self.key, self.value))
        return Tensors(query, key, value, self.learned, self.key_mask)
