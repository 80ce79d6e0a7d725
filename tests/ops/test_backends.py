# SPDX-License-Identifier: Apache-2.0
"""Every backend agrees with the reference, and the reference with brute force."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from slideformer.ops import slide_attention

from . import brute
from .cases import CASES, FUSED, ON_CPU, OTHERS, SMALL, TOLERANCE, Case, assert_agrees, expected, of_axes, run

PORTABLE = [name for name in ON_CPU if name not in FUSED]
FINEST = {name: torch.float32 if name in FUSED else torch.float64 for name in ON_CPU}


@pytest.mark.parametrize("backend", [name for name in PORTABLE if name != "reference"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_agree_in_float64(case: Case, backend: str) -> None:
    assert_agrees(case, backend, torch.float64)


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_agree_in_float32(case: Case, backend: str) -> None:
    assert_agrees(case, backend, torch.float32)


@pytest.mark.parametrize("backend", [name for name in PORTABLE if name != "reference"])
@pytest.mark.parametrize("case", OTHERS, ids=str)
def test_maps_of_any_axes_agree_in_float64(case: Case, backend: str) -> None:
    if backend == "unfold" and len(case.size) > 2:
        with pytest.raises(ValueError, match="unfold takes maps of one or two axes, got 3"):
            run(case, backend, torch.float64)
        return
    assert_agrees(case, backend, torch.float64)


@pytest.mark.parametrize("case", OTHERS, ids=str)
def test_maps_of_any_axes_agree_in_float32(case: Case) -> None:
    assert_agrees(case, "auto", torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_values_and_gradients_agree_in_half_precision(case: Case, backend: str, dtype: torch.dtype) -> None:
    assert_agrees(case, backend, dtype)


BRUTE = [
    Case(kernel, dilation, border, size, 2, 3, optional, True, batch=1)
    for kernel, dilation, size in [
        (3, 1, (5, 6)),
        (3, 2, (7, 4)),
        ((3, 5), (1, 2), (4, 7)),
        (5, 1, (3, 8)),
        (3, 3, (2, 2)),
    ]
    for border, optional in [
        ("zeros", ("shift_weight", "shift_bias", "key_bias", "logit_bias")),
        ("mask", ("key_bias", "logit_bias")),
        ("clamp", ("relative",)),
    ]
]


BRUTE += [replace(case, channels=3, batch=1) for case in OTHERS if math.prod(case.size) <= 60]


@pytest.mark.parametrize("case", BRUTE, ids=str)
def test_reference_equals_brute_force_over_every_query(case: Case) -> None:
    tensors, axes = case.tensors(), len(case.size)
    window = {name: of_axes(option, axes) for name, option in case.window.items()}
    output = brute.slide_attention(**tensors, **window, key_mask=case.mask())
    # Where no tap is read, nothing depends on a tensor.
    output = output + sum(0 * x.nan_to_num(0, 0, 0).sum() for x in tensors.values())
    grad = torch.randn(output.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grads = torch.autograd.grad(output, list(tensors.values()), grad)
    for name, wanted in {"output": output.detach(), **dict(zip(tensors, grads, strict=True))}.items():
        torch.testing.assert_close(expected(case)[name], wanted, rtol=1e-10, atol=1e-10, msg=name)


DERIVED = [
    replace(case, size=(3, 4), heads=2, channels=2, batch=1)
    for case in (
        Case(3, 1, "zeros", (3, 4), 2, 2, ("shift_weight", "shift_bias", "key_bias", "logit_bias"), False),
        Case((1, 3), (1, 2), "mask", (3, 4), 2, 2, ("key_bias",), True),
        Case(3, 1, "clamp", (3, 4), 2, 2, ("relative",), True),
    )
]


@pytest.mark.parametrize("backend", PORTABLE)
@pytest.mark.parametrize("case", DERIVED, ids=str)
def test_first_and_second_derivatives_equal_finite_differences(case: Case, backend: str) -> None:
    tensors = case.tensors()

    def function(*values: Tensor) -> Tensor:
        return slide_attention(**dict(zip(tensors, values, strict=True)), **case.window, backend=backend)

    assert torch.autograd.gradcheck(function, tuple(tensors.values()), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, tuple(tensors.values()), fast_mode=True)


@pytest.mark.parametrize("backend", ON_CPU)
def test_a_gradient_that_nobody_needs_is_not_required(backend: str) -> None:
    tensors = SMALL[0].tensors(FINEST[backend])
    value = tensors["value"]
    frozen = {name: x.detach() for name, x in tensors.items() if name != "value"}
    output = slide_attention(**frozen, value=value, **SMALL[0].window, backend=backend)
    (grad,) = torch.autograd.grad(output.sum(), value)
    whole = slide_attention(**tensors, **SMALL[0].window, backend="reference")
    torch.testing.assert_close(grad, torch.autograd.grad(whole.sum(), value)[0])


@pytest.mark.parametrize("backend", ON_CPU)
def test_a_query_that_sees_nothing_gets_zeros_whatever_it_is(backend: str) -> None:
    query, key, value = (x.requires_grad_() for x in torch.randn(3, 1, 6, 1, 8, dtype=FINEST[backend]))
    with torch.no_grad():
        query[0, 0] = torch.nan
    exists = torch.tensor([[False] * 4 + [True, False]])
    output = slide_attention(query, key, value, border="mask", key_mask=exists, backend=backend)
    (grad,) = torch.autograd.grad(output.sum(), query)
    assert not output[0, 0].any()
    assert not grad[0, 0].any()


@pytest.mark.parametrize("backend", ON_CPU)
def test_a_bias_that_leaves_out_the_only_key_leaves_zeros(backend: str) -> None:
    maps = torch.randn(3, 1, 6, 1, 8, dtype=FINEST[backend])
    bias = torch.tensor([[0.0, -torch.inf, 0.0]], dtype=FINEST[backend])
    exists = torch.tensor([[True, False] * 3])
    output = slide_attention(*maps, border="mask", key_mask=exists, logit_bias=bias, backend=backend)
    assert not output[0, 2].any()
    assert output[0, 1].all()


@pytest.mark.parametrize("backend", ON_CPU)
def test_a_batch_of_none_gives_a_batch_of_none(backend: str) -> None:
    case = Case(3, 1, "zeros", (4, 4), 2, 4, ("shift_weight", "shift_bias", "key_bias"), True, batch=0)
    tensors = case.tensors(FINEST[backend])
    output = slide_attention(**tensors, **case.window, backend=backend)
    assert output.shape == (0, 4, 4, 2, 4)
    output.sum().backward()
    assert tensors["shift_weight"].grad is not None
    assert not tensors["shift_weight"].grad.any()


@pytest.mark.parametrize("backend", ON_CPU)
def test_value_may_have_channels_of_its_own(backend: str) -> None:
    query, key = torch.randn(2, 1, 4, 5, 2, 8, dtype=FINEST[backend])
    value = torch.randn(1, 4, 5, 2, 3, dtype=FINEST[backend], requires_grad=True)
    output = slide_attention(query, key, value, border="mask", backend=backend)
    wanted = slide_attention(query, key, value, border="mask", backend="reference")
    torch.testing.assert_close(output, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), value)[0] for y in (output, wanted)))


@pytest.mark.parametrize("backend", ON_CPU)
def test_the_same_call_twice_is_equal_to_the_bit(backend: str) -> None:
    first, second = ({k: v.clone() for k, v in _once(backend).items()} for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def _once(backend: str) -> dict[str, Tensor]:
    tensors = SMALL[-1].tensors(torch.float32)
    output = slide_attention(**tensors, **SMALL[-1].window, backend=backend)
    grads = torch.autograd.grad(output.square().sum(), list(tensors.values()))
    return {"output": output.detach(), **dict(zip(tensors, grads, strict=True))}


@pytest.mark.parametrize("backend", ON_CPU)
def test_autocast_leaves_the_logits_in_float32(backend: str) -> None:
    case = SMALL[-1]
    tensors = {name: x.detach() for name, x in case.tensors(torch.float32).items()}
    plain = slide_attention(**tensors, **case.window, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(plain, slide_attention(**tensors, **case.window, backend=backend))


@pytest.mark.parametrize("backend", ON_CPU)
def test_large_logits_stay_finite_in_half_precision(backend: str) -> None:
    query = torch.full((1, 3, 3, 1, 32), 60.0, dtype=torch.float16)
    output = slide_attention(query, query, query, border="mask", backend=backend)
    torch.testing.assert_close(output, query)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", [*ON_CPU, "auto"])
@pytest.mark.parametrize("case", SMALL[::3], ids=str)
def test_a_learned_scale_has_its_gradient(case: Case, backend: str, dtype: torch.dtype) -> None:
    def gradients(backend: str, dtype: torch.dtype, times: float) -> list[Tensor]:
        tensors = case.tensors(dtype)
        scale = torch.tensor(0.3, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
        scale.requires_grad_()
        if times:  # the definition in numbers: a step of the scale to either side
            outputs = (
                slide_attention(**tensors, **case.window, scale=0.3 + step, backend=backend)
                for step in (times, -times)
            )
            above, below = (x.detach().square().sum() for x in outputs)
            return [(above - below) / (2 * times)]
        output = slide_attention(**tensors, **case.window, scale=scale, backend=backend)
        assert output.dtype == dtype
        return list(torch.autograd.grad(output.double().square().sum(), [scale, *tensors.values()]))

    (slope,) = gradients("reference", torch.float64, 1e-5)
    actual = gradients(backend, dtype, 0)
    wanted = gradients("reference", torch.float64, 0)
    assert abs(wanted[0] - slope) <= 1e-5 * max(1.0, abs(slope))
    largest = max(1.0, *(float(x.abs().max()) for x in wanted))
    for x, y in zip(actual, wanted, strict=True):
        assert float((x.double() - y).abs().max()) <= TOLERANCE[dtype] * largest
