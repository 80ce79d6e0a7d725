# SPDX-License-Identifier: Apache-2.0
"""The checks of a call: each message is written once and says what must hold, what came, what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, cast

import torch
from torch import Tensor

from slideformer.ops.window import BORDERS, Border, Window

# The sizes of this call by the description of a shape.
Shapes = Mapping[str, tuple[int, ...]]

AXES = {1: "a tuple of one", 2: "two ints (rows, columns)", 3: "three ints (depth, rows, columns)"}
# The fused kernels count in 32 bits.
MOST = 2**31 - 1
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def of_axes(name: str, value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """One integer for all axes, or one an axis."""
    values: tuple[Any, ...] = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    if not all(isinstance(v, (int, Integral)) and not isinstance(v, bool) for v in values):
        raise TypeError(f"{name} must be an int or {AXES[axes]}, got {value!r}")
    counted(name, values, axes)
    if min(values) < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    if max(values) > MOST:
        raise ValueError(f"{name} must be at most {MOST}, got {value}")
    return tuple(int(v) for v in values)


def counted(name: str, values: Sequence[object], axes: int) -> None:
    """Check that there is a value for each axis of the map."""
    if len(values) != axes:
        raise ValueError(
            f"{name} must have one entry for all axes or {axes}, one for each axis of the map, "
            f"got {len(values)}: {tuple(values)}"
        )


def axes_of(*options: int | str | Sequence[int | str]) -> int:
    """The number of axes that options have entries for; two, an image's, where each is one for all axes."""
    tuples = [option for option in options if isinstance(option, (tuple, list))]
    axes = len(tuples[0]) if tuples else 2
    if axes not in AXES:
        raise ValueError(
            f"kernel_size, dilation and border must have one to three entries, one for each axis of the map, "
            f"got {axes}: {tuples[0]}"
        )
    return axes


def window(
    kernel_size: int | Sequence[int],
    dilation: int | Sequence[int] = 1,
    border: Border | Sequence[Border] = "zeros",
    *,
    axes: int | None = None,
) -> Window:
    """The window that these options describe over maps of so many axes; default: `axes_of` the options.

    Raises:
        ValueError: an even or too small ``kernel_size``, a ``dilation`` below 1, an unknown ``border``, or a
            number of entries that is not that of the axes.
        TypeError: sizes that are not integers.
    """
    axes = axes_of(kernel_size, dilation, border) if axes is None else axes
    sides = of_axes("kernel_size", kernel_size, axes)
    for side in sides:
        if side % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}; use {side + 1}")
    borders = (border,) * axes if isinstance(border, str) else border
    if not isinstance(borders, (tuple, list)) or not all(
        isinstance(x, str) and x in BORDERS for x in borders
    ):
        raise ValueError(f"border must be one of {', '.join(map(repr, BORDERS))}, got {border!r}")
    counted("border", borders, axes)
    return Window(sides, of_axes("dilation", dilation, axes), cast("tuple[Border, ...]", tuple(borders)))


def periodic(window: Window, size: Sequence[int]) -> None:
    """Check that a periodic axis holds the window, which would else see a position twice."""
    for place, axis in enumerate(window.axes(size)):
        if axis.border != "wrap":
            continue
        needs = f'border="wrap" needs an axis at least as long as the window, {axis.span + 1} positions'
        if isinstance(axis.size, torch.SymInt):
            # The size of an exported program is symbolic: the program checks it when it runs.
            torch._check(axis.size > axis.span, lambda needs=needs: needs)
        elif isinstance(axis.size, int) and axis.size <= axis.span:
            raise ValueError(
                f"{needs}, got {axis.size} along axis {place} of the map; "
                "use a smaller kernel_size or dilation"
            )


def shown(values: Sequence[object]) -> str:
    """An option for a reader: once, where it is the same along every axis."""
    return repr(values[0]) if len(set(values)) == 1 else repr(tuple(values))


def strided(name: str, x: Tensor) -> None:
    """Check that an argument is a tensor with strides."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a Tensor, got {type(x).__name__}")
    if x.layout is not torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got {x.layout}; use {name}.to_dense()")


def feature_map(name: str, x: Tensor) -> None:
    """Check that an argument has heads, channels and one to three axes, and that its numbers are floating."""
    strided(name, x)
    if not 4 <= x.ndim <= 6:
        raise ValueError(
            f"{name} must have 4 to 6 dimensions, (B, *map, G, D) with a map of one to three axes, "
            f"got {tuple(x.shape)}; split channels into heads with x.unflatten(-1, (heads, -1))"
        )
    if x.dtype not in FLOATS:
        raise TypeError(
            f"{name} must be float64, float32, float16 or bfloat16, got {x.dtype}; use {name}.float()"
        )


def maps(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Check that the shapes of the maps fit each other, and that their numbers are floating."""
    for name, x in (("query", query), ("key", key), ("value", value)):
        feature_map(name, x)
    if query.shape != key.shape:
        raise ValueError(
            f"query and key must have one shape, got {tuple(query.shape)} and {tuple(key.shape)}"
        )
    if value.shape[:-1] != key.shape[:-1]:
        raise ValueError(
            f"value must have key's batch, map and heads, got {tuple(value.shape)} and {tuple(key.shape)}"
        )
    empty = next((x for x in (query, value) if 0 in x.shape[1:]), None)
    if empty is not None:
        raise ValueError(f"map, heads and channels must not be empty, got {tuple(empty.shape)}")


def one_dtype(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Check that all maps have one dtype."""
    if not query.dtype == key.dtype == value.dtype:
        raise TypeError(
            f"query, key and value must have one dtype, got {query.dtype}, {key.dtype} and {value.dtype}; "
            "convert them with .to(query.dtype)"
        )


def scale(x: float | Tensor) -> float | Tensor:
    """The factor of the logits: a finite number, or one in a tensor, whose value is not read.

    Raises:
        TypeError: not a real number.
        ValueError: not finite, or more than one.
    """
    if isinstance(x, Tensor):
        strided("scale", x)
        if x.numel() != 1:
            raise ValueError(
                f"scale must be one number, got the shape {tuple(x.shape)}; multiply the query by it"
            )
        if x.dtype == torch.bool or x.is_complex():
            raise TypeError(f"scale must be a real number, got a tensor of {x.dtype}")
        return x.reshape(())
    if isinstance(x, torch.SymFloat):  # of an exported program
        return x
    if isinstance(x, bool) or not isinstance(x, Real):
        raise TypeError(f"scale must be a real number, a tensor of one or None, got {x!r}")
    try:
        number = float(x)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"scale must be finite, got {x!r}; pass None for D ** -0.5")
    return number


def parameter(name: str, x: Tensor | None, shapes: Shapes, query: Tensor) -> None:
    """Check the shape and the dtype of an optional tensor, where there is one."""
    if x is None:
        return
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a Tensor or None, got {type(x).__name__}")
    strided(name, x)
    if tuple(x.shape) not in shapes.values():
        wanted = " or ".join(f"{words} = {shape}" for words, shape in shapes.items())
        raise ValueError(f"{name} must have the shape {wanted}, got {tuple(x.shape)}")
    if x.dtype not in (query.dtype, torch.float32):
        raise TypeError(
            f"{name} must have the maps' dtype {query.dtype} or float32, got {x.dtype}; use {name}.float()"
        )


def weights(x: Tensor, value: Tensor, window: Window) -> None:
    """Check that attention weights fit the value and the window, in dtype and device too."""
    strided("weights", x)
    wanted = (*value.shape[:-1], window.taps)
    if tuple(x.shape) != wanted:
        raise ValueError(f"weights must have the shape (B, *map, G, T) = {wanted}, got {tuple(x.shape)}")
    if x.dtype not in (value.dtype, torch.float32):
        raise TypeError(
            f"weights must have value's dtype {value.dtype} or float32, got {x.dtype}; use weights.float()"
        )
    devices(value, weights=x)


def mask(x: Tensor | None, key: Tensor) -> None:
    """Check that a mask says of every key whether it exists."""
    if x is None:
        return
    strided("key_mask", x)
    if x.dtype != torch.bool:
        raise TypeError(f"key_mask must be bool, True where a key exists, got {x.dtype}; use key_mask.bool()")
    if x.shape != key.shape[:-2]:
        raise ValueError(
            f"key_mask must have the shape (B, *map) = {tuple(key.shape[:-2])}, got {tuple(x.shape)}"
        )


def devices(query: Tensor, **others: Tensor | None) -> None:
    """Check that all tensors are on one device."""
    for name, x in others.items():
        if x is not None and x.device != query.device:
            raise ValueError(
                f"all tensors must be on one device, got {query.device} and, for {name}, {x.device}; "
                f"use {name}.to({str(query.device)!r})"
            )


def parameters(
    query: Tensor,
    value: Tensor,
    window: Window,
    *,
    shift_weight: Tensor | None,
    shift_bias: Tensor | None,
    key_bias: Tensor | None,
    logit_bias: Tensor | None,
    masked: bool,
) -> None:
    """Check that the optional tensors fit the maps and the window."""
    heads, channels, taps = *query.shape[-2:], window.taps
    by_tap: Shapes = {"(heads, taps)": (heads, taps)}
    words = ", ".join(["2 K - 1"] * len(window.table))
    by_position: Shapes = {f"(heads, {words})": (heads, *window.table)}
    parameter("shift_weight", shift_weight, {"(channels, taps, taps)": (channels, taps, taps)}, query)
    parameter("shift_bias", shift_bias, {"(channels, taps)": (channels, taps)}, query)
    parameter("key_bias", key_bias, by_tap, query)
    parameter(
        "logit_bias", logit_bias, {**by_tap, **by_position} if "clamp" in window.border else by_tap, query
    )
    if shift_weight is None and shift_bias is None:
        return
    if not window.fills:
        raise ValueError(
            f'a shift (shift_weight, shift_bias) needs border="zeros" or "wrap", got {shown(window.border)}: '
            "a deformed tap mixes all taps of the window, so none of them can be left out"
        )
    if masked and not window.zeros:
        raise ValueError(
            f'a shift with a key_mask needs border="zeros" along every axis, got {shown(window.border)}: '
            "elsewhere masked keys are left out, and a deformed tap mixes all taps"
        )
    if value.shape[-1] != channels:
        raise ValueError(
            f"with a shift, which keys and values share, value must have query's {channels} channels, "
            f"got {value.shape[-1]}"
        )
