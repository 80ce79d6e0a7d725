# SPDX-License-Identifier: Apache-2.0
"""The checks of a call: each message is written once and says what must hold, what came, what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real

import torch
from torch import Tensor

from slideformer.ops.window import BORDERS, Border, Window

# The sizes of this call by the description of a shape.
Shapes = Mapping[str, tuple[int, ...]]

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def pair(name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    """One integer for both axes, or (rows, columns)."""
    values = value if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2 or not all(
        isinstance(v, (int, Integral)) and not isinstance(v, bool) for v in values
    ):
        raise TypeError(f"{name} must be an int or two ints (rows, columns), got {value!r}")
    if min(values) < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return int(values[0]), int(values[1])


def window(
    kernel_size: int | tuple[int, int], dilation: int | tuple[int, int] = 1, border: Border = "zeros"
) -> Window:
    """The window that these options describe.

    Raises:
        ValueError: an even or too small ``kernel_size``, a ``dilation`` below 1, an unknown ``border``.
        TypeError: sizes that are not integers.
    """
    sides = pair("kernel_size", kernel_size)
    for side in sides:
        if side % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}; use {side + 1}")
    if not isinstance(border, str) or border not in BORDERS:
        raise ValueError(f"border must be one of {', '.join(map(repr, BORDERS))}, got {border!r}")
    return Window(sides, pair("dilation", dilation), border)


def strided(name: str, x: Tensor) -> None:
    """Check that an argument is a tensor with strides."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a Tensor, got {type(x).__name__}")
    if x.layout is not torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got {x.layout}; use {name}.to_dense()")


def maps(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Check that the shapes of the maps fit each other, and that their numbers are floating."""
    for name, x in (("query", query), ("key", key), ("value", value)):
        strided(name, x)
        if x.ndim != 5:
            raise ValueError(
                f"{name} must have the 5 dimensions (B, H, W, G, D), got {tuple(x.shape)}; "
                "split channels into heads with x.unflatten(-1, (heads, -1))"
            )
        if x.dtype not in FLOATS:
            raise TypeError(
                f"{name} must be float64, float32, float16 or bfloat16, got {x.dtype}; use {name}.float()"
            )
    if query.shape != key.shape:
        raise ValueError(
            f"query and key must have one shape, got {tuple(query.shape)} and {tuple(key.shape)}"
        )
    if value.shape[:4] != key.shape[:4]:
        raise ValueError(
            f"value must have key's batch, map and heads, got {tuple(value.shape)} and {tuple(key.shape)}"
        )
    if 0 in query.shape[1:] or value.shape[4] == 0:
        raise ValueError(f"map, heads and channels must not be empty, got {tuple(query.shape)}")


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
            f"{name} must have query's dtype {query.dtype} or float32, got {x.dtype}; use {name}.float()"
        )


def weights(x: Tensor, value: Tensor, window: Window) -> None:
    """Check that attention weights fit the value and the window, in dtype and device too."""
    strided("weights", x)
    if tuple(x.shape) != (*value.shape[:4], window.taps):
        wanted = (*value.shape[:4], window.taps)
        raise ValueError(f"weights must have the shape (B, H, W, G, T) = {wanted}, got {tuple(x.shape)}")
    if x.dtype not in (value.dtype, torch.float32):
        raise TypeError(
            f"weights must have value's dtype {value.dtype} or float32, got {x.dtype}; use weights.float()"
        )
    devices(value, weights=x)


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
) -> None:
    """Check that the optional tensors fit the maps and the window."""
    heads, channels, taps = query.shape[3], query.shape[4], window.taps
    rows, columns = window.kernel_size
    by_tap: Shapes = {"(heads, taps)": (heads, taps)}
    by_position: Shapes = {"(heads, 2 K_rows - 1, 2 K_cols - 1)": (heads, 2 * rows - 1, 2 * columns - 1)}
    parameter("shift_weight", shift_weight, {"(channels, taps, taps)": (channels, taps, taps)}, query)
    parameter("shift_bias", shift_bias, {"(channels, taps)": (channels, taps)}, query)
    parameter("key_bias", key_bias, by_tap, query)
    parameter(
        "logit_bias", logit_bias, {**by_tap, **by_position} if window.border == "clamp" else by_tap, query
    )
    if shift_weight is None and shift_bias is None:
        return
    if window.border != "zeros":
        raise ValueError(
            f'a shift (shift_weight, shift_bias) needs border="zeros", got {window.border!r}: '
            "a deformed tap mixes all taps of the window, so none of them can be left out"
        )
    if value.shape[4] != channels:
        raise ValueError(
            f"with a shift, which keys and values share, value must have query's {channels} channels, "
            f"got {value.shape[4]}"
        )
