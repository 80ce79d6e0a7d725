# SPDX-License-Identifier: Apache-2.0
"""Slide attention as functions: check the call, select a backend, run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from slideformer.ops import backend as table
from slideformer.ops import checks, derivatives
from slideformer.ops.call import PARAMETERS, Call, no_channels
from slideformer.ops.derivatives import recomputing
from slideformer.ops.explanation import Explanation, explain_call
from slideformer.ops.known import KNOWN, kind_of, remember
from slideformer.ops.precision import autocast_maps, autocast_parameter, autocasts, own_precision
from slideformer.ops.window import Border

# One for all axes of the map, or one an axis.
Size = int | Sequence[int]
Borders = Border | Sequence[Border]


def checked(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: tuple[Size, Size, Borders],
    parameters: Sequence[Tensor | None],
    scale: float | Tensor | None = None,
    *,
    key_mask: Tensor | None = None,
    named: bool = False,
) -> Call:
    """The arguments as a call that every backend can trust.

    Args:
        query: as all maps, as `slide_attention` takes it.
        key: likewise.
        value: likewise.
        options: kernel size, dilation and border.
        parameters: the optional tensors in the order of `PARAMETERS`.
        scale: factor of the logits.
        key_mask: which keys exist.
        named: whether the backend was chosen by name.
    """
    # Without a tensor there is no device to ask for; the checks say so.
    casts = isinstance(query, Tensor) and autocasts(query)
    given = options if not casts else (options, torch.get_autocast_dtype(query.device.type))
    kind = kind_of((query, key, value, key_mask, *parameters), given)
    known = None if kind is None else KNOWN.get(kind)
    if known is None:
        checks.maps(query, key, value)
        window = checks.window(*options, axes=query.ndim - 3)
        checks.periodic(window, query.shape[1:-2])
        checks.mask(key_mask, key)
    else:
        window = known
    if casts:
        query, key, value = autocast_maps(query, key, value)
        parameters = [autocast_parameter(x, query) for x in parameters]
    if known is None:
        optional = dict(zip(PARAMETERS, parameters, strict=True))
        checks.one_dtype(query, key, value)
        checks.parameters(query, value, window, **optional, masked=key_mask is not None)
        checks.devices(query, key=key, value=value, key_mask=key_mask, **optional)
        remember(kind, window)
    factor = query.shape[-1] ** -0.5 if scale is None else checks.scale(scale)
    if isinstance(factor, Tensor):
        query, factor = scaled(query, factor), 1.0
    return Call.of((query, key, value, key_mask, *parameters), window, factor, named=named)


def computed(call: Call, backend: str, part: table.Part = "attend") -> Tensor:
    """Compute a checked call, or a half of the operator, by the backend that takes it."""
    chosen = table.select(call, backend, part)
    call = call if chosen.masks else call.existing()
    form: Callable[[Call], Tensor] = getattr(chosen, part)
    if not autocasts(call.query):
        return form(call)
    # The backward pass of ordinary operators runs in the precision of its surroundings, maybe autocast's.
    rounds = not chosen.automatic and not torch.compiler.is_compiling()
    with own_precision(call.query):
        return derivatives.attend(call, recomputing(chosen.name, form)) if rounds else form(call)


def scaled(query: Tensor, scale: Tensor) -> Tensor:
    """The query times a number that may be learned; product and gradient are summed in float32 at least."""
    wide = torch.promote_types(query.dtype, torch.float32)
    return (query.to(wide) * scale.to(query.device, wide)).to(query.dtype)


def slide_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    kernel_size: Size = 3,
    dilation: Size = 1,
    border: Borders = "zeros",
    key_mask: Tensor | None = None,
    shift_weight: Tensor | None = None,
    shift_bias: Tensor | None = None,
    key_bias: Tensor | None = None,
    logit_bias: Tensor | None = None,
    scale: float | Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Attend from every position to its own neighbourhood, plain or through a deformed shift.

    A map has one, two or three axes: a sequence, an image, a volume. With taps t, u at the offsets d_t, d_u
    of the window, positions p, channels c and heads g,

        K'_t(p, c) = sum_u W[c, t, u] K(p + d_u, c) + b[c, t]            V' the same way
        logit_t(p) = scale sum_c Q(p, c) (K'_t(p, c) + r[g, t]) + s[g, t]
        out(p, c)  = sum_t softmax_t(logit(p)) V'_t(p, c)

    (Pan et al., Slide-Transformer, CVPR 2023, sections 3.2 and 4). Without ``shift_weight``, W is the
    identity: ordinary local attention.

    Args:
        query: ``(B, *map, G, D)``: batch, map of one to three axes, heads, channels a head; of an image
            ``(B, H, W, G, D)``. Any strides.
        key: ``(B, *map, G, D)``.
        value: ``(B, *map, G, D)``; without a shift it may have channels of its own.
        kernel_size: odd length K of the window in positions, one for all axes or one an axis, as (rows,
            columns). Its T taps, their product, are in row-major order.
        dilation: spacing of the taps in positions, one for all axes or one an axis.
        border: one for all axes or one an axis. ``"zeros"``: outside the map are zero vectors that take part
            in the softmax (the paper); ``"mask"``: taps outside are left out; ``"clamp"``: the window
            slides inward and holds K neighbours that exist (Neighborhood Attention), or all of them where
            the map is smaller; ``"wrap"``: the axis is periodic. A tap that one axis leaves out is left out.
        key_mask: ``(B, *map)``, bool, True where a key and its value exist. Others are as outside the map:
            zero vectors where the border is ``"zeros"`` along every axis, else left out; what they hold
            does not matter. A query that sees nothing gets zeros.
        shift_weight: W, the merged shift, ``(D, T, T)`` [channel, output tap, input tap], for keys and
            values of all heads. Only where no tap is left out.
        shift_bias: b, ``(D, T)``.
        key_bias: r, ``(G, T)``, added to every channel of the key: the paper's position bias.
        logit_bias: s, ``(G, T)`` by tap; where an axis has ``"clamp"`` also by position relative to the
            query, ``(G, 2 K - 1, ...)``, an entry an axis.
        scale: factor of the logits, ``D ** -0.5`` if None: a finite real number of Python or NumPy, or one in
            a tensor, which may be learned. A tensor multiplies the query, in query's dtype.
        backend: ``"auto"``, or a name that `backends` lists. A named one never falls back silently.

    Returns:
        ``(B, *map, G, D)`` in the dtype of the arguments; logits and softmax are float32 at least.

    Raises:
        ValueError: shapes, sizes, devices or options that do not fit, or a backend that cannot take the call.
        TypeError: a dtype that is not floating, or differs between query, key and value. Autocast casts such
            maps to its own dtype, except float64.
        NotImplementedError: a backend chosen by name has no second derivatives or no forward mode. With
            ``"auto"``, every derivative and every transform of `torch.func` is computed.

    Example:
        >>> q, k, v = torch.randn(3, 1, 14, 14, 2, 32)
        >>> slide_attention(q, k, v, kernel_size=3).shape
        torch.Size([1, 14, 14, 2, 32])
    """
    options = (kernel_size, dilation, border)
    parameters = (shift_weight, shift_bias, key_bias, logit_bias)
    call = checked(query, key, value, options, parameters, scale, key_mask=key_mask, named=backend != "auto")
    return computed(call, backend)


def slide_attention_logits(
    query: Tensor,
    key: Tensor,
    *,
    kernel_size: Size = 3,
    dilation: Size = 1,
    border: Borders = "zeros",
    key_mask: Tensor | None = None,
    shift_weight: Tensor | None = None,
    shift_bias: Tensor | None = None,
    key_bias: Tensor | None = None,
    logit_bias: Tensor | None = None,
    scale: float | Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Compute how well each query fits the key at each tap of its window: the operator before its softmax.

    Arguments, errors and equations are those of `slide_attention`, as is what is differentiable.

    Returns:
        ``(B, *map, G, T)``, float32 at least; minus infinity, a constant, where a tap is left out.
    """
    options = (kernel_size, dilation, border)
    parameters = (shift_weight, shift_bias, key_bias, logit_bias)
    return computed(logits_call(query, key, options, parameters, scale, key_mask, backend), backend, "logits")


def slide_attention_weights(
    query: Tensor,
    key: Tensor,
    *,
    kernel_size: Size = 3,
    dilation: Size = 1,
    border: Borders = "zeros",
    key_mask: Tensor | None = None,
    shift_weight: Tensor | None = None,
    shift_bias: Tensor | None = None,
    key_bias: Tensor | None = None,
    logit_bias: Tensor | None = None,
    scale: float | Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Compute how much each position attends to each tap of its window: the softmax of the logits.

    Arguments, errors and equations are those of `slide_attention`, as is what is differentiable.

    Returns:
        ``(B, *map, G, T)``, float32 at least; sums to 1 over the taps, zeros where a query sees nothing. It
        holds T numbers a position and head, which `slide_attention` never does: use it to look, and to change
        weights on their way to `slide_attention_values`.

    Example:
        >>> q, k, v = torch.randn(3, 1, 14, 14, 2, 32)
        >>> weights = slide_attention_weights(q, k, kernel_size=3)
        >>> slide_attention_values(weights, v, kernel_size=3).shape
        torch.Size([1, 14, 14, 2, 32])
    """
    options = (kernel_size, dilation, border)
    parameters = (shift_weight, shift_bias, key_bias, logit_bias)
    call = logits_call(query, key, options, parameters, scale, key_mask, backend)
    if table.select(call, backend, "logits").weights is not None:
        return computed(call, backend, "weights")
    logits = computed(call, backend, "logits")
    with own_precision(query):
        return call.softmax(logits)


def logits_call(
    query: Tensor,
    key: Tensor,
    options: tuple[Size, Size, Borders],
    parameters: Sequence[Tensor | None],
    scale: float | Tensor | None,
    key_mask: Tensor | None,
    backend: str,
) -> Call:
    """The checked arguments of the first half."""
    call = checked(query, key, key, options, parameters, scale, key_mask=key_mask, named=backend != "auto")
    return replace(call, value=no_channels(call.key))


def slide_attention_values(
    weights: Tensor,
    value: Tensor,
    *,
    kernel_size: Size = 3,
    dilation: Size = 1,
    border: Borders = "zeros",
    key_mask: Tensor | None = None,
    shift_weight: Tensor | None = None,
    shift_bias: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Sum the shifted values with given weights, the operator after its softmax: ``sum_t A_t V'_t``.

    With the weights of `slide_attention_weights` this is `slide_attention`; dropout and other changes of the
    weights go between the two.

    Args:
        weights: ``(B, *map, G, T)``, in float32 or value's dtype; any numbers. Those of taps that are left
            out do not matter as long as they are finite.
        value: ``(B, *map, G, D)``.
        kernel_size: as in `slide_attention`, as are the other arguments and errors.
        dilation: spacing of the taps.
        border: treatment of positions outside the map.
        key_mask: ``(B, *map)`` or None.
        shift_weight: ``(D, T, T)`` or None.
        shift_bias: ``(D, T)`` or None.
        backend: as in `slide_attention`.

    Returns:
        ``(B, *map, G, D)`` in value's dtype.
    """
    checks.feature_map("value", value)
    options = (kernel_size, dilation, border)
    # Neither the biases of the logits nor the scale matter to values.
    parameters = (shift_weight, shift_bias, None, None)
    call = checked(value, value, value, options, parameters, 1.0, key_mask=key_mask, named=backend != "auto")
    if autocasts(value):
        weights = autocast_parameter(weights, value)
    checks.weights(weights, value, call.window)
    call = replace(call, query=weights.to(call.dtype), key=no_channels(call.value))
    return computed(call, backend, "values")


def explain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    kernel_size: Size = 3,
    dilation: Size = 1,
    border: Borders = "zeros",
    key_mask: Tensor | None = None,
    shift_weight: Tensor | None = None,
    shift_bias: Tensor | None = None,
    key_bias: Tensor | None = None,
    logit_bias: Tensor | None = None,
    scale: float | Tensor | None = None,
    backend: str = "auto",
) -> Explanation:
    """Say which backend `slide_attention` would take for these arguments, and what each would cost.

    Nothing is computed: tensors may be on the device ``meta``. Arguments and errors are those of
    `slide_attention`.

    Example:
        >>> q = torch.empty(8, 56, 56, 3, 32, device="meta")
        >>> print(explain(q, q, q, kernel_size=3))  # doctest: +SKIP
    """
    options = (kernel_size, dilation, border)
    parameters = (shift_weight, shift_bias, key_bias, logit_bias)
    call = checked(query, key, value, options, parameters, scale, key_mask=key_mask)
    return explain_call(call, backend)


def backends() -> tuple[table.Backend, ...]:
    """All backends in order of preference."""
    return table.BACKENDS
