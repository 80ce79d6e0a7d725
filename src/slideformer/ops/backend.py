# SPDX-License-Identifier: Apache-2.0
"""The table of backends in order of preference, and the choice of one for a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from slideformer.ops import conv, cpu, matmul, reference, shift, triton, unfold
from slideformer.ops.call import Call

# The operator or one of its halves, the first with its softmax or without: a field of `Backend`.
Part = Literal["attend", "logits", "weights", "values"]


@dataclass(frozen=True)
class Backend:
    """One way to compute the operator, and perhaps its halves.

    Attributes:
        name: the name to choose it by.
        attend: computes a call.
        summary: a line that describes it.
        maps: feature maps of the size of the key that the forward pass holds at its peak.
        maps_a_tap: the same, for every tap of the window.
        refusal: the reason why it cannot take a call, as a sentence, or None.
        automatic: whether ``backend="auto"`` may choose it.
        one_hot: whether it multiplies by a one-hot kernel where nothing is deformed.
        masks: whether it takes what a mask hides as it is; others get zeros there.
        logits: computes the first half of the operator alone, None where it cannot.
        weights: computes their softmax, too; None where that is taken of the logits.
        values: computes the second half alone, likewise.
    """

    name: str
    attend: Callable[[Call], Tensor]
    summary: str
    maps: int
    maps_a_tap: int
    refusal: Callable[[Call], str | None] = lambda call: None
    automatic: bool = False
    one_hot: bool = False
    masks: bool = False
    logits: Callable[[Call], Tensor] | None = None
    weights: Callable[[Call], Tensor] | None = None
    values: Callable[[Call], Tensor] | None = None


# In the order in which "auto" asks them. A new backend is one file and one row.
BACKENDS: tuple[Backend, ...] = (
    Backend(
        "triton",
        triton.attend,
        "fused GPU kernels, forward and backward",
        0,
        0,
        triton.refusal,
        automatic=True,
        logits=triton.logits,
        values=triton.values,
    ),
    Backend(
        "cpu",
        cpu.attend,
        "fused kernels in C, forward and backward",
        0,
        0,
        cpu.refusal,
        automatic=True,
        masks=True,
        logits=cpu.logits,
        weights=cpu.weights,
        values=cpu.values,
    ),
    Backend(
        "matmul",
        matmul.attend,
        "matrix products, tap by tap, in tiles",
        2,
        0,
        automatic=True,
        logits=matmul.logits,
        values=matmul.values,
    ),
    Backend("conv", conv.attend, "the paper's form: one merged depthwise convolution", 0, 2, one_hot=True),
    Backend(
        "shift",
        shift.attend,
        "the paper's row view: shifted copies of the map",
        0,
        2,
        logits=shift.logits,
        values=shift.values,
    ),
    Backend("unfold", unfold.attend, "the paper's column view: Im2Col by F.unfold", 0, 2, unfold.refusal),
    Backend(
        "reference",
        reference.attend,
        "the plain formula, which the others are checked against",
        0,
        4,
        logits=reference.logits,
        values=reference.values,
    ),
)


def find(name: str) -> Backend:
    """The backend of this name."""
    for backend in BACKENDS:
        if backend.name == name:
            return backend
    names = ", ".join(repr(backend.name) for backend in BACKENDS)
    raise ValueError(f"backend must be 'auto' or one of {names}, got {name!r}")


def select(call: Call, name: str, part: Part = "attend") -> Backend:
    """The backend that takes a call: the named one, or the first automatic one that can."""
    if name == "auto":
        return next(
            backend
            for backend in BACKENDS
            if backend.automatic and getattr(backend, part) is not None and backend.refusal(call) is None
        )
    backend = find(name)
    reason = backend.refusal(call) if getattr(backend, part) is not None else no_halves(part)
    if reason is not None:
        raise ValueError(f"backend {name!r} cannot take this call: {reason}")
    return backend


def no_halves(part: Part) -> str:
    """The reason why a backend cannot compute a half of the operator alone, as a sentence."""
    others = ", ".join(repr(row.name) for row in BACKENDS if getattr(row, part) is not None)
    return f"it computes weights and sums in one, and not the {part} alone; use 'auto' or one of {others}"
