# SPDX-License-Identifier: Apache-2.0
"""The shared table of cases: every backend is held to the reference on each of them."""

from __future__ import annotations

import functools
import itertools
import random
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slideformer.ops import backends, explain, slide_attention

# What this machine's CPU can run. Without a C compiler there is no library to test; test_cpu tells whether
# there should be one.
with warnings.catch_warnings():
    # It is said aloud that there is no library; here that is no mistake.
    warnings.simplefilter("ignore")
    REFUSED = explain(*torch.zeros(3, 1, 2, 2, 1, 4)).refused
ON_CPU = tuple(row.name for row in backends() if row.name not in REFUSED)
# The fused kernels know neither float64 nor second derivatives, and are no graph for other runtimes.
FUSED = ("cpu",)

# Largest error, relative to the largest number of the reference in float64.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}

KERNELS = (1, 3, 5, 7, (3, 5))
DILATIONS = (1, 2, (1, 3))
MAPS = ((1, 1), (1, 9), (2, 2), (5, 7), (14, 14))
HEADS = (1, 3)
CHANNELS = (4, 20, 32)

# Which optional tensors a case has; "relative" is the logit bias by relative position.
ANY_BORDER = ((), ("key_bias",), ("logit_bias",), ("key_bias", "logit_bias"))
OPTIONS = {
    "mask": ANY_BORDER,
    "clamp": (*ANY_BORDER, ("relative",), ("key_bias", "relative")),
    "zeros": (
        *ANY_BORDER,
        ("shift_weight",),
        ("shift_bias",),
        ("shift_weight", "shift_bias"),
        ("shift_weight", "key_bias"),
        ("shift_weight", "shift_bias", "key_bias", "logit_bias"),
    ),
}


@dataclass(frozen=True)
class Case:
    kernel_size: int | tuple[int, int]
    dilation: int | tuple[int, int]
    border: str
    size: tuple[int, int]
    heads: int
    channels: int
    optional: tuple[str, ...]
    contiguous: bool
    batch: int = 2

    def __str__(self) -> str:
        words = [f"k{self.kernel_size}", f"d{self.dilation}", self.border, "{}x{}".format(*self.size)]
        words += [
            f"{self.heads}x{self.channels}",
            "+".join(self.optional),
            "" if self.contiguous else "views",
        ]
        return "-".join(word for word in words if word).replace(" ", "")

    @property
    def window(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size, "dilation": self.dilation, "border": self.border}

    def tensors(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> dict[str, Tensor]:
        """Random arguments by name, equal on every device and, but for rounding, in every dtype."""
        generator = torch.Generator().manual_seed(0)
        rows, columns = (self.kernel_size,) * 2 if isinstance(self.kernel_size, int) else self.kernel_size
        taps = rows * columns

        def random_tensor(*shape: int, scale: float = 1.0) -> Tensor:
            x = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
            return x.to(device, dtype).detach().requires_grad_()

        shapes = {
            "shift_weight": (self.channels, taps, taps),
            "shift_bias": (self.channels, taps),
            "key_bias": (self.heads, taps),
            "logit_bias": (self.heads, taps),
            "relative": (self.heads, 2 * rows - 1, 2 * columns - 1),
        }
        fused = (self.batch, *self.size, 3 * self.heads, self.channels)
        query, key, value = (
            random_tensor(*fused).detach().chunk(3, dim=3)
        )  # views, as a layer hands them over
        if self.contiguous:
            query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        named = {"query": query, "key": key, "value": value}
        for x in named.values():
            x.requires_grad_()
        for name in self.optional:
            # A shift sums over the taps: keep its outputs, and so the logits, of order one.
            scale = taps**-0.5 if name == "shift_weight" else 1.0
            named["logit_bias" if name == "relative" else name] = random_tensor(*shapes[name], scale=scale)
        return named


def run(case: Case, backend: str, dtype: torch.dtype, device: str = "cpu") -> dict[str, Tensor]:
    """The output and the gradient of every tensor argument, by name, in float64."""
    tensors = case.tensors(dtype, device)
    output = slide_attention(**tensors, **case.window, backend=backend)
    assert output.dtype == dtype
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(device, dtype)
    # A map of one position, where keys do not matter, still has (zero) gradients for them.
    grads = torch.autograd.grad(output, list(tensors.values()), grad)
    results = {"output": output.detach(), **dict(zip(tensors, grads, strict=True))}
    return {name: x.double().cpu() for name, x in results.items()}


@functools.cache
def expected(case: Case) -> dict[str, Tensor]:
    """The reference in float64."""
    return run(case, "reference", torch.float64)


def assert_agrees(case: Case, backend: str, dtype: torch.dtype, device: str = "cpu") -> None:
    """The output and every gradient agree with the reference, each named where it does not."""
    actual = run(case, backend, dtype, device)
    # Gradients of one call live on one scale: a gradient that is zero but for rounding is not divided by.
    scale = max(1.0, *(float(x.abs().max()) for x in expected(case).values()))
    for name, wanted in expected(case).items():
        error = float((actual[name] - wanted).abs().max()) / scale
        assert error <= TOLERANCE[dtype], f"{name}: relative error {error:.2e}"


def _table() -> tuple[Case, ...]:
    """Each kernel with each dilation, border and map; heads, channels and options drawn, the same always."""
    draw = random.Random(0)
    rows = []
    for border, kernel, dilation, size in itertools.product(OPTIONS, KERNELS, DILATIONS, MAPS):
        heads, channels = draw.choice(HEADS), draw.choice(CHANNELS)
        optional, contiguous = draw.choice(OPTIONS[border]), draw.random() < 0.5
        rows.append(Case(kernel, dilation, border, size, heads, channels, optional, contiguous))
    # Every set of optional tensors on one middling map, whatever was drawn above.
    for border, options in OPTIONS.items():
        rows.extend(Case(3, 1, border, (5, 7), 3, 20, optional, False) for optional in options)
    return tuple(dict.fromkeys(rows))


CASES = _table()
SMALL = tuple(case for case in CASES if case.size == (5, 7) and case.kernel_size == 3 and case.channels == 20)
