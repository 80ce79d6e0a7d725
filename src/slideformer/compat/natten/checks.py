# SPDX-License-Identifier: Apache-2.0
"""Checks of tensors in NATTEN's argument names and layouts, where the operator's messages have others."""

from __future__ import annotations

import torch
from torch import Tensor

from slideformer.ops import checks
from slideformer.ops.precision import HALVES, autocasts
from slideformer.ops.window import Window


def check_rank(name: str, x: Tensor, axes: int, layout: str) -> None:
    """Check that an argument is a tensor whose map has so many axes."""
    checks.strided(name, x)
    if x.ndim != axes + 3:
        raise ValueError(
            f"{name} must have {axes + 3} dimensions, {layout}, got {tuple(x.shape)}; "
            "use the function for as many axes as the map has"
        )


def check_key(key: Tensor, query: Tensor) -> None:
    """Check that a key fits its query, both with heads first."""
    if key.shape != query.shape:
        raise ValueError(
            f"key must have query's shape (B, heads, *map, D) = {tuple(query.shape)}, "
            f"got {tuple(key.shape)}; give both one map, and repeat the heads of keys that queries share"
        )
    if key.dtype != query.dtype and not autocasts(query):
        raise TypeError(
            f"key must have query's dtype {query.dtype}, got {key.dtype}; use key.to(query.dtype)"
        )


def check_attn(attn: Tensor, value: Tensor, window: Window) -> None:
    """Check that attention weights fit values and window, both with heads first."""
    wanted = (*value.shape[:-1], window.taps)
    if tuple(attn.shape) != wanted:
        raise ValueError(
            f"attn must have the shape (B, heads, *map, taps) = {wanted}, got {tuple(attn.shape)}; "
            "compute it from the map of value with the same kernel_size"
        )
    check_like("attn", attn, "value", value)


def check_rpb(rpb: Tensor | None, query: Tensor, window: Window) -> None:
    """Check that a relative position bias, if there is one, fits window and query, which has heads last."""
    if rpb is None:
        return
    checks.strided("rpb", rpb)
    wanted = (query.shape[-2], *window.table)
    if tuple(rpb.shape) != wanted:
        layout = ", ".join(["heads", *["2 K - 1"] * len(window.table)])
        raise ValueError(
            f"rpb must have the shape ({layout}) = {wanted}, got {tuple(rpb.shape)}; "
            "give it as many heads as query, and an entry for each distance that kernel_size reaches"
        )
    check_like("rpb", rpb, "query", query)


def check_like(name: str, x: Tensor, like_name: str, like: Tensor) -> None:
    """Check dtype and device of an argument by those of another, or that its dtype is float32."""
    dtypes = [like.dtype, torch.float32, *(HALVES if autocasts(like) else ())]
    if x.dtype not in dtypes:
        raise TypeError(
            f"{name} must have {like_name}'s dtype {like.dtype} or float32, got {x.dtype}; "
            f"use {name}.to({like_name}.dtype)"
        )
    checks.devices(like, **{name: x})
