# SPDX-License-Identifier: Apache-2.0
"""Every refusal says what must hold and what came."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from slideformer.ops import slide_attention, slide_attention_values
from slideformer.ops.checks import window


def arguments(**changes: Any) -> dict[str, Any]:
    query, key, value = torch.randn(3, 1, 4, 4, 2, 8)
    return {"query": query, "key": key, "value": value, **changes}


SHIFT = torch.zeros(8, 9, 9)

VALUE_ERRORS = {
    "rank": (
        {"query": torch.zeros(1, 4, 4, 8)},
        r"query must have the 5 dimensions \(B, H, W, G, D\), got \(1, 4, 4, 8\)",
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
    "no dilation": ({"dilation": (1, 0)}, r"dilation must be at least 1, got \(1, 0\)"),
    "border": ({"border": "wrap"}, "border must be one of 'zeros', 'mask', 'clamp', got 'wrap'"),
    "backend": ({"backend": "cuda"}, "backend must be 'auto' or one of .*'matmul'.*, got 'cuda'"),
    "shift border": (
        {"shift_weight": SHIFT, "border": "mask"},
        "a shift .* needs border=\"zeros\", got 'mask'",
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
        r"= \(2, 9\) or \(heads, 2 K_rows - 1, 2 K_cols - 1\) = \(2, 5, 5\), got \(2, 3, 3\)",
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
        "key_bias must have query's dtype torch.float32 or float32",
    ),
    "bias no tensor": ({"key_bias": [0.0] * 9}, "key_bias must be a Tensor or None, got list"),
    "float kernel": ({"kernel_size": 3.0}, "kernel_size must be an int or two ints"),
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
