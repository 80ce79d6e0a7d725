# SPDX-License-Identifier: Apache-2.0
"""The table of backends in order of preference: what each can do, what it costs, which one a call takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from slideformer.ops import conv, cpu, matmul, reference, shift, triton, unfold
from slideformer.ops.call import Call


@dataclass(frozen=True)
class Backend:
    """One way to compute the operator.

    Attributes:
        name: the word to choose it by.
        attend: computes a call.
        summary: what it is, in a line.
        copies: feature maps of the size of the key that the forward pass holds at its peak, as a
            function of the number of taps T; 0 where only a tile is held.
        refusal: why it cannot take this call, as a sentence, or None.
        automatic: whether ``backend="auto"`` may choose it.
    """

    name: str
    attend: Callable[[Call], Tensor]
    summary: str
    copies: Callable[[int], int]
    refusal: Callable[[Call], str | None] = lambda call: None
    automatic: bool = False


# In the order in which "auto" asks them. A new backend is one file and one row.
BACKENDS: tuple[Backend, ...] = (
    Backend(
        "triton",
        triton.attend,
        "fused GPU kernels, forward and backward",
        lambda taps: 0,
        refusal=triton.refusal,
        automatic=True,
    ),
    Backend(
        "cpu",
        cpu.attend,
        "fused kernels in C, forward and backward",
        lambda taps: 0,
        refusal=cpu.refusal,
        automatic=True,
    ),
    Backend("matmul", matmul.attend, "matrix products, tap by tap, in tiles", lambda taps: 2, automatic=True),
    Backend("conv", conv.attend, "the paper's form: one merged depthwise convolution", lambda taps: 2 * taps),
    Backend("shift", shift.attend, "the paper's row view: shifted copies of the map", lambda taps: 2 * taps),
    Backend("unfold", unfold.attend, "the paper's column view: Im2Col by F.unfold", lambda taps: 2 * taps),
    Backend(
        "reference",
        reference.attend,
        "the plain formula, to which the others are held",
        lambda taps: 4 * taps,
    ),
)


def find(name: str) -> Backend:
    """The backend of this name.

    Raises:
        ValueError: there is none.
    """
    for backend in BACKENDS:
        if backend.name == name:
            return backend
    names = ", ".join(repr(backend.name) for backend in BACKENDS)
    raise ValueError(f"backend must be 'auto' or one of {names}, got {name!r}")


def select(call: Call, name: str) -> Backend:
    """The backend that takes a call: the named one, or the first automatic one that accepts.

    Raises:
        ValueError: the named backend is unknown or refuses the call; it never falls back in silence.
    """
    if name == "auto":
        return next(backend for backend in BACKENDS if backend.automatic and backend.refusal(call) is None)
    backend = find(name)
    reason = backend.refusal(call)
    if reason is not None:
        raise ValueError(f"backend {name!r} cannot take this call: {reason}")
    return backend
