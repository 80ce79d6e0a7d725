# SPDX-License-Identifier: Apache-2.0
"""Every refusal says what must hold and what came."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from slideformer.ops import (
    slide_attention,
    slide_attention_logits,
    slide_attention_values,
    slide_attention_weights,
)
from slideformer.ops.checks import window


def arguments(**changes: Any) -> dict[str, Any]:
    query, key, value = torch.randn(3, 1, 4, 4, 2, 8)
    return {"query": query, "key": key, "value": value, **changes}


SHIFT = torch.zeros(8, 9, 9)

VALUE_ERRORS = {
    "rank 3": (
        {"query": torch.zeros(4, 4, 8)},
        r"query must have 4 to 6 dimensions, \(B, \*map, G, D\) .*, got \(4, 4, 8\); split channels",
    ),
    "rank 7": ({"key": torch.zeros(1, 4, 4, 4, 4, 2, 8)}, "key must have 4 to 6 dimensions"),
    "ranks": (
        {"query": torch.zeros(1, 4, 2, 8)},
        r"query and key must have one shape, got \(1, 4, 2, 8\) and \(1, 4, 4, 2, 8\)",
    ),
    "sides": ({"kernel_size": (3, 3, 3)}, r"kernel_size must have one entry for all axes or 2, .* got 3"),
    "dilations": ({"dilation": (1,)}, r"dilation must have one entry for all axes or 2, .* got 1: \(1,\)"),
    "borders": ({"border": ["zeros"]}, r"border must have one entry for all axes or 2, .* got 1"),
    "short wrap": (
        {"kernel_size": 5, "border": ("zeros", "wrap")},
        r"needs an axis at least as long as the window, 5 positions, got 4 along axis 1 of the map; use a sm",
    ),
    "mask shape": (
        {"key_mask": torch.ones(1, 4, 5, dtype=torch.bool)},
        r"key_mask must have the shape \(B, \*map\) = \(1, 4, 4\), got \(1, 4, 5\)",
    ),
    "mask device": (
        {"key_mask": torch.ones(1, 4, 4, dtype=torch.bool, device="meta")},
        "all tensors must be on one device, got cpu and, for key_mask, meta",
    ),
    "mask and shift": (
        {"key_mask": torch.ones(1, 4, 4, dtype=torch.bool), "shift_weight": SHIFT, "border": "wrap"},
        "a shift with a key_mask needs border=\"zeros\" along every axis, got 'wrap'",
    ),
    "key shape": (
        {"key": torch.zeros(1, 4, 5, 2, 8)},
        r"query and key must have one shape, got \(1, 4, 4, 2, 8\) and",
    ),
    "value shape": ({"value": torch.zeros(1, 4, 4, 1, 8)}, "value must have key's batch, map and heads, got"),
    "empty map": (
        {name: torch.zeros(1, 0, 4, 2, 8) for name in ("query", "key", "value")},
        "map, heads and channels must not be empty",
    ),
    "even kernel": ({"kernel_size": 4}, "kernel_size must be odd, got 4; use 5"),
    "even side": ({"kernel_size": (3, 2)}, r"kernel_size must be odd, got \(3, 2\); use 3"),
    "no kernel": ({"kernel_size": 0}, "kernel_size must be at least 1, got 0"),
    "a kernel beyond 32 bits": (
        {"kernel_size": 2**32 + 1},
        "kernel_size must be at most 2147483647, got 4294967297",
    ),
    "a dilation beyond 32 bits": ({"dilation": (1, 2**70)}, "dilation must be at most 2147483647, got"),
    "no dilation": ({"dilation": (1, 0)}, r"dilation must be at least 1, got \(1, 0\)"),
    "border": ({"border": "torus"}, "border must be one of 'zeros', 'mask', 'clamp', 'wrap', got 'torus'"),
    "border no word": ({"border": ["zeros", 1]}, r"border must be one of .*, got \['zeros', 1\]"),
    "scale nan": ({"scale": float("nan")}, "scale must be finite, got nan; pass None"),
    "scale infinite": ({"scale": -np.inf}, "scale must be finite, got -inf"),
    "scale too large": ({"scale": 10**400}, "scale must be finite, got 1000"),
    "scales": ({"scale": torch.ones(2)}, r"scale must be one number, got the shape \(2,\)"),
    "backend": ({"backend": "cuda"}, "backend must be 'auto' or one of .*'matmul'.*, got 'cuda'"),
    "shift border": (
        {"shift_weight": SHIFT, "border": "mask"},
        'a shift .* needs border="zeros" or "wrap", got \'mask\'',
    ),
    "shift shape": (
        {"shift_weight": SHIFT[:4]},
        r"shift_weight must have the shape .* = \(8, 9, 9\), got \(4, 9, 9\)",
    ),
    "bias shape": (
        {"key_bias": torch.zeros(9)},
        r"key_bias must have the shape \(heads, taps\) = \(2, 9\), got \(9,\)",
    ),
    "relative bias": (
        {"logit_bias": torch.zeros(2, 5, 5)},
        r"logit_bias must have the shape \(heads, taps\) = \(2, 9\), got \(2, 5, 5\)",
    ),
    "relative shape": (
        {"logit_bias": torch.zeros(2, 3, 3), "border": "clamp"},
        r"= \(2, 9\) or \(heads, 2 K - 1, 2 K - 1\) = \(2, 5, 5\), got \(2, 3, 3\)",
    ),
    "value channels": (
        {"value": torch.zeros(1, 4, 4, 2, 4), "shift_weight": SHIFT},
        "value must have query's 8 channels, got 4",
    ),
    "device": (
        {"key": torch.zeros(1, 4, 4, 2, 8, device="meta")},
        "all tensors must be on one device, got cpu and, for key, meta",
    ),
}

TYPE_ERRORS = {
    "integer": (
        {"query": torch.zeros(1, 4, 4, 2, 8, dtype=torch.int64)},
        "query must be float64, .*, got torch.int64",
    ),
    "mixed": ({"key": torch.zeros(1, 4, 4, 2, 8).double()}, "query, key and value must have one dtype"),
    "no tensor": ({"value": None}, "value must be a Tensor, got NoneType"),
    "bias dtype": (
        {"key_bias": torch.zeros(2, 9).half()},
        "key_bias must have the maps' dtype torch.float32 or float32",
    ),
    "bias no tensor": ({"key_bias": [0.0] * 9}, "key_bias must be a Tensor or None, got list"),
    "scale bool": ({"scale": True}, "scale must be a real number, a tensor of one or None, got True"),
    "scale word": ({"scale": "1"}, "scale must be a real number, a tensor of one or None, got '1'"),
    "scale complex": ({"scale": 1j}, "scale must be a real number, a tensor of one or None, got 1j"),
    "scale of bool": (
        {"scale": torch.tensor(True)},
        "scale must be a real number, got a tensor of torch.bool",
    ),
    "scale of complex": ({"scale": torch.tensor(1j)}, "scale must be a real number, got a tensor of"),
    "sparse": ({"value": torch.zeros(1, 4, 4, 2, 8).to_sparse()}, r"use value\.to_dense\(\)"),
    "sparse bias": ({"key_bias": torch.zeros(2, 9).to_sparse()}, r"use key_bias\.to_dense\(\)"),
    "float kernel": ({"kernel_size": 3.0}, "kernel_size must be an int or two ints"),
    "mask of numbers": ({"key_mask": torch.ones(1, 4, 4)}, "key_mask must be bool, .* use key_mask.bool"),
    "bool dilation": ({"dilation": (True, 1)}, "dilation must be an int or two ints"),
}


@pytest.mark.parametrize(("change", "message"), VALUE_ERRORS.values(), ids=VALUE_ERRORS)
def test_a_wrong_value_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        slide_attention(**arguments(**change))


@pytest.mark.parametrize(("change", "message"), TYPE_ERRORS.values(), ids=TYPE_ERRORS)
def test_a_wrong_type_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        slide_attention(**arguments(**change))


def test_a_shift_bias_alone_needs_zeros_too() -> None:
    with pytest.raises(ValueError, match='needs border="zeros"'):
        slide_attention(**arguments(shift_bias=torch.zeros(8, 9), border="clamp"))


def test_weights_of_another_window_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"weights must have the shape .* = \(1, 4, 4, 2, 9\), got \(1, 4, 4, 2, 25\)"
    ):
        slide_attention_values(torch.zeros(1, 4, 4, 2, 25), torch.zeros(1, 4, 4, 2, 8))


def test_parameters_may_stay_in_float32_beside_half_precision_maps() -> None:
    half = {name: x.bfloat16() for name, x in arguments().items()}
    assert slide_attention(**half, shift_weight=SHIFT, key_bias=torch.zeros(2, 9)).dtype == torch.bfloat16


def test_a_window_is_two_sides() -> None:
    assert window(3).kernel_size == (3, 3)
    assert window((1, 5), (1, 2)).taps == 5


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.float64], ids=str)
def test_weights_of_another_dtype_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(
        TypeError, match=f"weights must have value's dtype torch.float32 or float32, got {dtype}"
    ):
        slide_attention_values(torch.zeros(1, 4, 4, 2, 9, dtype=dtype), torch.zeros(1, 4, 4, 2, 8))


@pytest.mark.parametrize(
    "scale", [2, np.float32(2), np.int64(2), Fraction(2), torch.tensor(2), torch.full((1,), 2.0)]
)
def test_a_scale_is_any_real_number(scale: Any) -> None:
    call = arguments()
    torch.testing.assert_close(slide_attention(**call, scale=scale), slide_attention(**call, scale=2.0))


def test_sizes_may_be_integers_of_numpy() -> None:
    assert window(np.int64(3), (np.int32(1), 2)).dilation == (1, 2)
    assert type(window(np.int64(3)).kernel_size[0]) is int


HALF, FULL, DOUBLE = torch.bfloat16, torch.float32, torch.float64
MIXED = {"query": (FULL, HALF, HALF), "value": (HALF, HALF, FULL), "halves": (torch.float16, HALF, HALF)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("dtypes", MIXED.values(), ids=MIXED)
def test_autocast_casts_maps_of_different_dtypes_as_pytorch_does(dtypes: Any, dtype: torch.dtype) -> None:
    maps = [x.to(y) for x, y in zip(arguments().values(), dtypes, strict=True)]
    key_bias = torch.randn(2, 9, dtype=torch.float16)
    with torch.autocast("cpu", dtype):
        output = slide_attention(*maps, key_bias=key_bias)
        assert output.dtype == torch.nn.functional.scaled_dot_product_attention(*maps).dtype == dtype
        weights = slide_attention_weights(*maps[:2], key_bias=key_bias)
        assert slide_attention_values(weights.half(), maps[2]).dtype == maps[2].dtype
    cast = [x.to(dtype) for x in maps]
    assert torch.equal(output, slide_attention(*cast, key_bias=key_bias.float()))


def test_autocast_leaves_float64_and_maps_of_one_dtype() -> None:
    call = arguments()
    with torch.autocast("cpu", torch.bfloat16):
        assert slide_attention(**call).dtype == torch.float32
        assert slide_attention(**{name: x.double() for name, x in call.items()}).dtype == torch.float64
        with pytest.raises(TypeError, match="query, key and value must have one dtype"):
            slide_attention(**{**call, "key": call["key"].double()})
    with pytest.raises(TypeError, match="query, key and value must have one dtype"):
        slide_attention(**{**call, "key": call["key"].bfloat16()})


WEIGHTS, VALUE = torch.zeros(1, 4, 5, 2, 9), torch.zeros(1, 4, 5, 2, 8)
MASKED = {"key_mask": torch.ones(1, 4, 5, dtype=torch.bool)}
OF_HALVES: dict[str, tuple[Callable[..., Tensor], tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "no halves": (
        slide_attention_logits,
        (VALUE, VALUE),
        {"backend": "conv"},
        ValueError,
        r"backend 'conv' cannot take this call: .* not the logits alone; use 'auto' or one of ",
    ),
    "no values": (
        slide_attention_values,
        (WEIGHTS, VALUE),
        {"backend": "unfold"},
        ValueError,
        "backend 'unfold' cannot take this call: .* not the values alone; use 'auto' or one of ",
    ),
    "no backend": (
        slide_attention_weights,
        (VALUE, VALUE),
        {"backend": "cuda"},
        ValueError,
        "backend must be 'auto' or one of",
    ),
    "taps of a mask": (
        slide_attention_values,
        (WEIGHTS[..., :8], VALUE),
        MASKED,
        ValueError,
        r"= \(1, 4, 5, 2, 9\), got \(1, 4, 5, 2, 8\)",
    ),
    "heads": (
        slide_attention_values,
        (WEIGHTS[..., :1, :], VALUE),
        {},
        ValueError,
        r"= \(1, 4, 5, 2, 9\), got \(1, 4, 5, 1, 9\)",
    ),
    "device": (
        slide_attention_values,
        (WEIGHTS.to("meta"), VALUE),
        {},
        ValueError,
        "all tensors must be on one device, got cpu and, for weights, meta",
    ),
    "weights type": (
        slide_attention_values,
        (None, VALUE),
        {},
        TypeError,
        "weights must be a Tensor, got None",
    ),
    "value rank": (
        slide_attention_values,
        (WEIGHTS, VALUE[0, 0]),
        {},
        ValueError,
        "value must have 4 to 6 dimensions",
    ),
    "value dtype": (slide_attention_values, (WEIGHTS, VALUE.int()), {}, TypeError, "value must be float64, "),
    "key shape": (
        slide_attention_logits,
        (VALUE, VALUE[:, :3]),
        {},
        ValueError,
        "query and key must have one shape",
    ),
    "mask shape": (
        slide_attention_values,
        (WEIGHTS, VALUE),
        {"key_mask": torch.ones(1, 5, 4, dtype=torch.bool)},
        ValueError,
        r"^key_mask must have the shape \(B, \*map\) = \(1, 4, 5\), got \(1, 5, 4\)$",
    ),
    "mask and shift": (
        slide_attention_values,
        (WEIGHTS, VALUE),
        {"shift_bias": torch.zeros(8, 9), "border": "wrap", **MASKED},
        ValueError,
        'a shift with a key_mask needs border="zeros"',
    ),
    "shift shape": (
        slide_attention_values,
        (WEIGHTS, VALUE),
        {"shift_bias": torch.zeros(9, 8)},
        ValueError,
        r"shift_bias must have the shape \(channels, taps\) = \(8, 9\), got \(9, 8\)",
    ),
    # Arguments that this function lacks are not named.
    "shift dtype": (
        slide_attention_values,
        (WEIGHTS, VALUE),
        {"shift_bias": torch.zeros(8, 9).double()},
        TypeError,
        "^shift_bias must have the maps' dtype torch.float32 or float32, got torch.float64; use shift_b",
    ),
}


@pytest.mark.parametrize(
    ("function", "arguments", "options", "error", "message"), OF_HALVES.values(), ids=OF_HALVES
)
def test_what_does_not_fit_a_half_is_refused(
    function: Callable[..., Tensor],
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        function(*arguments, **options)
