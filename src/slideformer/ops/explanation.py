# SPDX-License-Identifier: Apache-2.0
"""An explanation of which backend a call takes, why, and what each would cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from slideformer.ops import backend as table
from slideformer.ops.call import Call


@dataclass(frozen=True)
class Cost:
    """The cost of a forward pass.

    Attributes:
        flops: floating-point operations, a multiply-add counted as two (paper.md's 2 N C T^2 + 2 N C T).
        memory_bytes: memory held at the peak beyond inputs and output, in bytes.
    """

    flops: int
    memory_bytes: int


def cost(backend: table.Backend, call: Call) -> Cost:
    """The cost of one call, calculated from its shapes."""
    *positions_and_heads, channels = call.query.shape
    taps, positions = call.window.taps, math.prod(positions_and_heads)
    both = channels + call.value.shape[-1]
    mixed = call.deformed or backend.one_hot
    multiply_adds = positions * both * (taps + taps * taps * mixed)
    held = positions * both // 2 * (backend.maps + backend.maps_a_tap * taps) * call.dtype.itemsize
    return Cost(flops=2 * multiply_adds, memory_bytes=held)


@dataclass(frozen=True)
class Explanation:
    """The answer of `explain`: printed, it is a table.

    Attributes:
        chosen: the backend that takes the call.
        refused: the reason of each backend that cannot.
        costs: cost of a forward pass by backend.
    """

    chosen: str
    refused: dict[str, str]
    costs: dict[str, Cost]

    def __str__(self) -> str:
        """One line a backend."""
        lines = [f"{'':2}{'backend':<12}{'GFLOP':>10}{'extra MiB':>12}  why"]
        for backend in table.BACKENDS:
            price = self.costs[backend.name]
            mark = "> " if backend.name == self.chosen else "  "
            why = self.refused.get(backend.name, backend.summary)
            figures = f"{price.flops / 1e9:>10.3f}{price.memory_bytes / 2**20:>12.1f}"
            lines.append(f"{mark}{backend.name:<12}{figures}  {why}")
        return "\n".join(lines)


def explain_call(call: Call, backend: str) -> Explanation:
    """Say which backend a checked call takes."""
    reasons = {row.name: row.refusal(call) for row in table.BACKENDS}
    return Explanation(
        chosen=table.select(call, backend).name,
        refused={name: reason for name, reason in reasons.items() if reason is not None},
        costs={row.name: cost(row, call) for row in table.BACKENDS},
    )
