# SPDX-License-Identifier: Apache-2.0
"""Neighborhood attention by the names and layouts of ``natten.functional``, over `slide_attention`.

Complete, with heads last, ``(B, *map, G, D)``, as in NATTEN from 0.17 on: `na1d`, `na2d`, `na3d`. In two
halves, with heads first, ``(B, G, *map, D)``, as in NATTEN before 0.20: logits, not scaled, by ``na?d_qk``
and weighted values by ``na?d_av``; before 0.17 ``natten?dqk``, ``natten?dqkrpb`` and ``natten?dav``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from inspect import signature
from typing import Concatenate, ParamSpec

from torch import Tensor

from slideformer.compat.natten.checks import check_attn, check_key, check_rank, check_rpb
from slideformer.compat.natten.options import check_neutral
from slideformer.ops import checks, slide_attention, slide_attention_logits, slide_attention_values
from slideformer.ops.functional import Size

P = ParamSpec("P")


# `over_maps` binds the axes, and the docstring is that of the functions which it makes.
def neighborhood_attention(  # noqa: D417
    axes: int,
    /,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    kernel_size: Size,
    stride: Size = 1,
    dilation: Size = 1,
    is_causal: bool | Sequence[bool] = False,
    scale: float | None = None,
    *,
    rpb: Tensor | None = None,
    **options: object,
) -> Tensor:
    """Attend from every position to its nearest neighbours, in windows that stay inside the map.

    Args:
        query: ``(B, *map, G, D)``, as key and value are.
        key: likewise.
        value: likewise; it may have channels of its own.
        kernel_size: odd length of the window, one for all axes or one an axis.
        stride: always 1.
        dilation: spacing of the window's taps, one for all axes or one an axis.
        is_causal: False.
        scale: factor of the logits, ``D ** -0.5`` if None.
        rpb: relative position bias ``(G, 2 K - 1, ...)``, an entry an axis, as NATTEN had before 0.20.
        options: others of NATTEN's, with values that change nothing.

    Returns:
        ``(B, *map, G, D)``.

    Raises:
        ValueError: shapes, or an option that slideformer lacks.
        TypeError: dtypes, or an unknown option.

    Example:
        >>> q, k, v = torch.randn(3, 1, 14, 14, 2, 32)
        >>> na2d(q, k, v, kernel_size=7, dilation=2).shape
        torch.Size([1, 14, 14, 2, 32])
    """
    check_neutral({"stride": stride, "is_causal": is_causal, **options}, axes)
    check_rank("query", query, axes, "(B, *map, heads, D)")
    check_rpb(rpb, query, checks.window(kernel_size, dilation, "clamp", axes=axes))
    return slide_attention(
        query,
        key,
        value,
        kernel_size=kernel_size,
        dilation=dilation,
        border="clamp",
        logit_bias=rpb,
        scale=scale,
    )


def neighborhood_logits(
    axes: int,
    /,
    query: Tensor,
    key: Tensor,
    kernel_size: Size,
    dilation: Size = 1,
    additional_keys: None = None,
    is_causal: bool | Sequence[bool] = False,
    rpb: Tensor | None = None,
) -> Tensor:
    """Products of each query with its neighbours, not scaled: ``(B, G, *map, D)`` to ``(B, G, *map, T)``.

    Arguments and errors are those of `na2d`, but for the layout; ``rpb`` is added. The
    result has the dtype of the query.
    """
    check_neutral({"additional_keys": additional_keys, "is_causal": is_causal}, axes)
    maps = heads_last("query", query, axes), heads_last("key", key, axes)
    check_key(key, query)
    check_rpb(rpb, maps[0], checks.window(kernel_size, dilation, "clamp", axes=axes))
    logits = slide_attention_logits(
        *maps,
        kernel_size=kernel_size,
        dilation=dilation,
        border="clamp",
        logit_bias=rpb,
        scale=1.0,
    )
    return logits.movedim(-2, 1).to(query.dtype)


def neighborhood_values(
    axes: int,
    /,
    attn: Tensor,
    value: Tensor,
    kernel_size: Size,
    dilation: Size = 1,
    additional_values: None = None,
    is_causal: bool | Sequence[bool] = False,
) -> Tensor:
    """Sum of each query's neighbours, weighted: ``(B, G, *map, T)`` and ``(B, G, *map, D)`` to the latter.

    Arguments and errors are those of `na2d`, but for the layout; ``attn`` are the weights.
    """
    check_neutral({"additional_values": additional_values, "is_causal": is_causal}, axes)
    maps = heads_last("attn", attn, axes), heads_last("value", value, axes)
    check_attn(attn, value, checks.window(kernel_size, dilation, "clamp", axes=axes))
    output = slide_attention_values(
        *maps,
        kernel_size=kernel_size,
        dilation=dilation,
        border="clamp",
    )
    return output.movedim(-2, 1)


def biased_logits(
    axes: int, /, query: Tensor, key: Tensor, rpb: Tensor | None, kernel_size: Size, dilation: Size
) -> Tensor:
    """Products of each query with its neighbours, as of ``na?d_qk``, with the bias in the third place."""
    return neighborhood_logits(axes, query, key, kernel_size, dilation, rpb=rpb)


def heads_last(name: str, x: Tensor, axes: int) -> Tensor:
    """A view for the operator: ``(B, G, *map, D)`` to ``(B, *map, G, D)``."""
    check_rank(name, x, axes, "(B, heads, *map, channels or taps)")
    return x.movedim(1, -2)


def over_maps(
    name: str, function: Callable[Concatenate[int, P], Tensor], axes: Sequence[int] = (1, 2, 3)
) -> list[Callable[P, Tensor]]:
    """A function for maps of each number of axes, ``name`` with that number in it."""

    def over(count: int) -> Callable[P, Tensor]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Tensor:
            return function(count, *args, **kwargs)

        call.__name__ = call.__qualname__ = name.format(count)
        vars(call)["__signature__"] = signature(partial(function, count))
        return call

    return [over(count) for count in axes]


na1d, na2d, na3d = over_maps("na{}d", neighborhood_attention)
na1d_qk, na2d_qk, na3d_qk = over_maps("na{}d_qk", neighborhood_logits)
na1d_av, na2d_av, na3d_av = over_maps("na{}d_av", neighborhood_values)

# The same by their names before 0.17.
natten1dqk, natten2dqk = over_maps("natten{}dqk", neighborhood_logits, (1, 2))
natten1dqkrpb, natten2dqkrpb = over_maps("natten{}dqkrpb", biased_logits, (1, 2))
natten1dav, natten2dav = over_maps("natten{}dav", neighborhood_values, (1, 2))


def natten3dqkrpb(
    query: Tensor,
    key: Tensor,
    rpb: Tensor | None,
    kernel_size_d: int,
    kernel_size: int,
    dilation_d: int,
    dilation: int,
) -> Tensor:
    """`na3d_qk` with a bias; kernel size and dilation of the first axis, then of the two others."""
    sides, spacings = (kernel_size_d, kernel_size, kernel_size), (dilation_d, dilation, dilation)
    return na3d_qk(query, key, sides, spacings, rpb=rpb)


def natten3dqk(
    query: Tensor, key: Tensor, kernel_size_d: int, kernel_size: int, dilation_d: int, dilation: int
) -> Tensor:
    """`na3d_qk`; kernel size and dilation of the first axis, then of the two others."""
    return natten3dqkrpb(query, key, None, kernel_size_d, kernel_size, dilation_d, dilation)


def natten3dav(
    attn: Tensor, value: Tensor, kernel_size_d: int, kernel_size: int, dilation_d: int, dilation: int
) -> Tensor:
    """`na3d_av`; kernel size and dilation of the first axis, then of the two others."""
    sides, spacings = (kernel_size_d, kernel_size, kernel_size), (dilation_d, dilation, dilation)
    return na3d_av(attn, value, sides, spacings)
