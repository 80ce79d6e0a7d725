# SPDX-License-Identifier: Apache-2.0
"""The shared table of cases: every backend is held to the reference on each of them."""

from __future__ import annotations

import functools
import itertools
import math
import random
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slideformer.ops import backends, explain, slide_attention
from slideformer.ops.window import BORDERS

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
    """One call: the options of the window, one for all axes or one an axis, and what there is of the rest."""

    kernel_size: int | tuple[int, ...]
    dilation: int | tuple[int, ...]
    border: str | tuple[str, ...]
    size: tuple[int, ...]
    heads: int
    channels: int
    optional: tuple[str, ...]
    contiguous: bool
    batch: int = 2
    # Part of the keys that do not exist; what is under the mask is NaN or infinite.
    masked: float = 0.0

    def __str__(self) -> str:
        words = [f"k{self.kernel_size}", f"d{self.dilation}", str(self.border), "x".join(map(str, self.size))]
        words += [
            f"{self.heads}x{self.channels}",
            "+".join(self.optional),
            "" if self.contiguous else "views",
            f"masked{self.masked}" if self.masked else "",
        ]
        return "-".join(word for word in words if word).replace(" ", "").replace("'", "")

    @property
    def window(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size, "dilation": self.dilation, "border": self.border}

    @property
    def sides(self) -> tuple[int, ...]:
        """Length of the window along each axis."""
        return of_axes(self.kernel_size, len(self.size))

    def mask(self, device: str = "cpu") -> Tensor | None:
        """Which keys exist; of the first map of a batch, none in a whole part of it."""
        if not self.masked:
            return None
        mask = torch.rand((self.batch, *self.size), generator=torch.Generator().manual_seed(2)) >= self.masked
        mask[0, : max(1, self.size[0] // 2)] = False
        return mask.to(device)

    def tensors(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> dict[str, Tensor]:
        """Random arguments by name, equal on every device and, but for rounding, in every dtype."""
        generator = torch.Generator().manual_seed(0)
        taps = math.prod(self.sides)

        def random_tensor(*shape: int, scale: float = 1.0) -> Tensor:
            x = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
            return x.to(device, dtype).detach().requires_grad_()

        shapes = {
            "shift_weight": (self.channels, taps, taps),
            "shift_bias": (self.channels, taps),
            "key_bias": (self.heads, taps),
            "logit_bias": (self.heads, taps),
            "relative": (self.heads, *(2 * side - 1 for side in self.sides)),
        }
        fused = (self.batch, *self.size, 3 * self.heads, self.channels)
        query, key, value = (
            random_tensor(*fused).detach().chunk(3, dim=-2)
        )  # views, as a layer hands them over
        if self.contiguous:
            query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        mask = self.mask(device)
        if mask is not None:
            for x, nothing in ((key, torch.nan), (value, -torch.inf)):
                x[~mask] = nothing
        named = {"query": query, "key": key, "value": value}
        for x in named.values():
            x.requires_grad_()
        for name in self.optional:
            # A shift sums over the taps: keep its outputs, and so the logits, of order one.
            scale = taps**-0.5 if name == "shift_weight" else 1.0
            named["logit_bias" if name == "relative" else name] = random_tensor(*shapes[name], scale=scale)
        return named


def of_axes(option: Any, axes: int) -> tuple[Any, ...]:
    """An option of the window, one entry an axis."""
    return option if isinstance(option, tuple) else (option,) * axes


def run(case: Case, backend: str, dtype: torch.dtype, device: str = "cpu") -> dict[str, Tensor]:
    """The output and the gradient of every tensor argument, by name, in float64."""
    tensors = case.tensors(dtype, device)
    output = slide_attention(**tensors, **case.window, key_mask=case.mask(device), backend=backend)
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


# Sizes of maps of one to three axes, none shorter than its longest window below.
SIZES = {1: ((1,), (9,), (40,)), 2: ((5, 7), (9, 16)), 3: ((1, 5, 6), (3, 4, 5), (5, 3, 9))}


def _other_maps() -> tuple[Case, ...]:
    """Maps of one and three axes, mixed and periodic borders, masks: drawn, the same always."""
    draw = random.Random(1)
    rows = []
    for sizes in SIZES.values():
        for number in range(48):
            size = draw.choice(sizes)
            kernel, dilation = (
                tuple(draw.choice(among) for _ in size) for among in ((1, 3, 3, 5), (1, 1, 2))
            )
            borders = [
                draw.choice([x for x in BORDERS if x != "wrap" or length > step * (side - 1)])
                for length, side, step in zip(size, kernel, dilation, strict=True)
            ]
            if number % 3 == 0:  # a shift needs borders that leave no tap out
                long = (n > d * (k - 1) for n, k, d in zip(size, kernel, dilation, strict=True))
                borders = [draw.choice(("zeros", "wrap")) if fits else "zeros" for fits in long]
            masked = draw.choice((0.0, 0.0, 0.1, 0.6))
            full = not {"mask", "clamp"} & set(borders) and not (masked and "wrap" in borders)
            deformed = full and math.prod(kernel) <= 27 and number % 3 == 0
            options = OPTIONS["zeros"][4:] if deformed else ANY_BORDER
            if "clamp" in borders:
                options = OPTIONS["clamp"]
            heads, channels = draw.choice(HEADS), draw.choice(CHANNELS)
            optional, contiguous = draw.choice(options), draw.random() < 0.5
            border = tuple(borders)
            rows.append(
                Case(kernel, dilation, border, size, heads, channels, optional, contiguous, masked=masked)
            )
    # Windows longer than the last axis, whose taps are cut off, with masks.
    for border, size, kernel in itertools.product(("mask", "clamp"), (1, 2, 3), (5, 9)):
        rows.append(Case(kernel, 1, border, (size,), 1, 4, ("logit_bias",), True, masked=0.4))
        rows.append(Case((3, kernel), 1, ("zeros", border), (4, size), 2, 3, (), False, masked=0.4))
    # One of each border with each mask on a small map of two axes.
    for border, masked in itertools.product((*BORDERS, ("clamp", "wrap"), ("zeros", "mask")), (0.1, 1.0)):
        rows.append(Case(3, 1, border, (4, 5), 2, 20, ("key_bias", "logit_bias"), False, masked=masked))
    return tuple(dict.fromkeys(rows))


def _long_maps() -> tuple[Case, ...]:
    """Maps of which each axis in turn is so long that the C kernels cut it, with every border along it.

    And batches so large that the kernels take several heads at a time, the last time fewer.
    """
    rows = []
    for border in BORDERS:
        rows += [
            Case(5, 1, border, (1100,), 1, 4, ("key_bias",), False, masked=0.2),
            Case((3, 3), (2, 1), (border, "clamp"), (70, 5), 2, 16, ("relative",), False, batch=1),
            Case((3, 5), 1, ("mask", border), (3, 1100), 1, 3, ("logit_bias",), True, batch=1),
            Case((3, 1, 3), 1, (border, "zeros", "wrap"), (40, 2, 4), 1, 4, ("logit_bias",), True, batch=1),
            Case((3, 3, 1), 1, ("clamp", border, "mask"), (3, 40, 2), 1, 4, (), False, batch=1, masked=0.2),
        ]
    full = ("shift_weight", "shift_bias", "key_bias", "logit_bias")
    for border in ("zeros", "wrap"):
        rows.append(Case(3, 2, border, (1100,), 1, 16, full, False, batch=1))
        rows.append(Case((3, 1, 3), 1, (border, "zeros", "wrap"), (40, 3, 4), 2, 5, full, False, batch=1))
        rows.append(Case(3, 1, border, (5, 19), 5, 16, full, border == "zeros", batch=9))
    rows.append(Case(3, 1, "zeros", (4, 17), 3, 5, full, False, batch=25, masked=0.2))
    rows.append(
        Case((3, 5), (2, 1), ("clamp", "mask"), (7, 9), 5, 20, ("key_bias", "logit_bias"), False, 9, 0.2)
    )
    rows.append(Case(5, 1, "clamp", (6, 9), 4, 16, ("key_bias", "relative"), True, batch=13))
    return tuple(rows)


CASES = _table()
OTHERS = _other_maps()
LONG = _long_maps()
SMALL = tuple(case for case in CASES if case.size == (5, 7) and case.kernel_size == 3 and case.channels == 20)
