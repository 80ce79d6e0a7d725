# SPDX-License-Identifier: Apache-2.0
"""The two halves of the operator agree with brute force, and together they are the operator."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import slideformer.ops.backend as table
from slideformer.ops import (
    slide_attention,
    slide_attention_logits,
    slide_attention_values,
    slide_attention_weights,
)
from tests.tiers import fast

from . import brute
from .cases import FUSED, OTHERS, REFUSED, SMALL, TOLERANCE, Case, expected, of_axes
from .forms import FORMS, assert_same

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning"),
]
Named = dict[str, Tensor]
Function = Callable[..., Tensor]

ALL = ("shift_weight", "shift_bias", "key_bias", "logit_bias")
SHIFT = ("shift_weight", "shift_bias")
HAVE_HALVES = [row.name for row in table.BACKENDS if row.logits is not None and row.name not in REFUSED]
# Kernels know no float64.
COMPUTED = [(name, torch.float64) for name in ("auto", *HAVE_HALVES) if name not in FUSED]
COMPUTED += [(name, torch.float32) for name in ("auto", *HAVE_HALVES) if name in ("auto", *FUSED)]


def of_logits(case: Case, dtype: torch.dtype = torch.float64) -> Named:
    """The tensors of a case that its logits have."""
    return {name: x for name, x in case.tensors(dtype).items() if name != "value"}


def of_values(case: Case, dtype: torch.dtype = torch.float64) -> Named:
    """The tensors of a case that its sums of values have; the weights are any numbers."""
    tensors = case.tensors(dtype)
    shape = (*tensors["value"].shape[:-1], math.prod(case.sides))
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(shape, generator=generator, dtype=torch.float64).to(
        torch.promote_types(dtype, torch.float32)
    )
    shift = {name: tensors[name] for name in SHIFT if name in tensors}
    return {"weights": weights.requires_grad_(), "value": tensors["value"], **shift}


HALVES: dict[str, tuple[Function, Function, Callable[..., Named]]] = {
    "logits": (slide_attention_logits, brute.logits, of_logits),
    "weights": (slide_attention_weights, lambda **x: brute.weights(brute.logits(**x)), of_logits),
    "values": (slide_attention_values, brute.values, of_values),
}


def results(function: Function, tensors: Named, **options: Any) -> Named:
    """The output and the gradient of every tensor, by name, in float64."""
    output = function(**tensors, **options)
    grad = torch.randn(output.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grads = torch.autograd.grad(
        output, list(tensors.values()), grad.to(output.dtype), allow_unused=True, materialize_grads=True
    )
    found = {"output": output.detach(), **dict(zip(tensors, grads, strict=True))}
    return {name: x.double() for name, x in found.items()}


@functools.cache
def truth(case: Case, half: str) -> Named:
    _, function, of = HALVES[half]
    window = {name: of_axes(option, len(case.size)) for name, option in case.window.items()}
    return results(function, of(case), **window, key_mask=case.mask())


ROWS = [replace(case, channels=3, batch=1) for case in OTHERS if math.prod(case.size) <= 60]
ROWS += [replace(case, channels=3, batch=1) for case in SMALL]
FAST = ROWS[::6]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("case", fast(ROWS, *FAST), ids=str)
def test_a_half_equals_brute_force_over_every_query(case: Case, half: str) -> None:
    function, _, of = HALVES[half]
    for backend, dtype in COMPUTED:
        actual = results(function, of(case, dtype), **case.window, key_mask=case.mask(), backend=backend)
        assert_agrees(actual, truth(case, half), dtype)


def assert_agrees(actual: Named, wanted: Named, dtype: torch.dtype) -> None:
    """The output and every gradient agree, each named where it does not; all have one scale."""
    scale = max(1.0, *(float(x.masked_fill(x == -torch.inf, 0).abs().max()) for x in wanted.values()))
    for name, x in wanted.items():
        infinite = x == -torch.inf
        assert torch.equal(actual[name] == -torch.inf, infinite), name
        error = float((actual[name] - x).masked_fill(infinite, 0).abs().max()) / scale
        assert error <= TOLERANCE[dtype], f"{name}: relative error {error:.2e} in {dtype}"


def both_halves(query: Tensor, key: Tensor, value: Tensor, *, backend: str, **options: Any) -> Tensor:
    """The operator by its halves."""
    of_window = ("kernel_size", "dilation", "border", "key_mask", *SHIFT)
    weights = slide_attention_weights(query, key, **options, backend=backend)
    shared = {name: options[name] for name in of_window if name in options}
    return slide_attention_values(weights, value, **shared, backend=backend)


@pytest.mark.parametrize("case", fast([*OTHERS, *SMALL], *OTHERS[::4], *SMALL), ids=str)
def test_values_of_the_weights_are_the_operator(case: Case) -> None:
    dtypes = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
    for dtype in dtypes if case in SMALL else dtypes[:2]:
        actual = results(
            both_halves, case.tensors(dtype), **case.window, key_mask=case.mask(), backend="auto"
        )
        assert_agrees(actual, expected(case), dtype)


def test_a_query_that_sees_nothing_gets_zeros_and_gives_none() -> None:
    query, key = torch.randn(2, 1, 4, 2, 8).requires_grad_()
    key_mask = torch.zeros(1, 4, dtype=torch.bool)
    weights = slide_attention_weights(query, key, border="mask", key_mask=key_mask)
    assert not weights.any()
    grads = torch.autograd.grad((weights * torch.randn(weights.shape)).sum(), (query, key))
    assert not any(x.any() for x in grads)
    assert (slide_attention_logits(query, key, border="mask", key_mask=key_mask) == -torch.inf).all()


# Calls on a small map as functions of their tensors.
DEFORMED = Case((1, 3), 1, "zeros", (2, 3), 1, 2, ALL, False)
CLAMP = Case(3, 1, ("clamp", "wrap"), (2, 3), 1, 2, ("key_bias", "relative"), True)
MASK = Case((1, 3), (1, 2), "mask", (2, 3), 2, 2, ("key_bias", "logit_bias"), False)
CALLS = {
    "logits": ("logits", DEFORMED),
    "weights": ("weights", CLAMP),
    "weights of a part": ("weights", MASK),
    "values": ("values", DEFORMED),
}


def function_of(half: str, case: Case, backend: str) -> tuple[Function, tuple[Tensor, ...]]:
    """A half as a function of the tensors of a case, and these."""
    function, _, of = HALVES[half]
    tensors = of(case)
    names = list(tensors)
    return (
        lambda *x: function(**dict(zip(names, x, strict=True)), **case.window, backend=backend),
        tuple(x.detach() for x in tensors.values()),
    )


LONG = ("autograd.functional.hessian", "linearize", "hessian", "jacrev of jacrev")


@pytest.mark.parametrize("form", fast(FORMS, *(form for form in FORMS if form not in LONG)))
@pytest.mark.parametrize("call", fast(CALLS, "logits", "values"))
def test_every_derivative_and_transform_of_a_half_is_right(call: str, form: str) -> None:
    actual, wanted = (FORMS[form](*function_of(*CALLS[call], backend)) for backend in ("auto", "reference"))
    assert_same(actual, wanted, 1e-10)


@pytest.mark.parametrize("call", CALLS)
def test_derivatives_of_a_half_equal_finite_differences(call: str) -> None:
    function, inputs = function_of(*CALLS[call], "auto")
    inputs = tuple(x.requires_grad_() for x in inputs)
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("backend", fast(["auto", "matmul"]))
@pytest.mark.parametrize("call", fast(["mask", "clamp", "deformed"]))
def test_the_halves_are_one_compiled_graph_with_their_gradients(call: str, backend: str) -> None:
    case = {"deformed": DEFORMED, "mask": MASK, "clamp": CLAMP}[call]
    compiled = torch.compile(both_halves, fullgraph=True, backend="aot_eager")
    actual, wanted = (
        results(function, case.tensors(torch.float32), **case.window, backend=backend)
        for function in (compiled, both_halves)
    )
    assert_same(list(actual.values()), list(wanted.values()), 1e-5)


class Halves(torch.nn.Module):
    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return both_halves(query, key, value, border="mask", backend="auto")


def test_an_exported_program_has_the_halves_as_ordinary_operators() -> None:
    maps = tuple(torch.randn(3, 1, 4, 5, 2, 8))
    program = torch.export.export(Halves(), maps)
    assert not any("slideformer" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(*maps), slide_attention(*maps, border="mask"))


def numbers_kept(function: Function, tensors: Named, **options: Any) -> int:
    """How many numbers a call keeps for its backward pass, each tensor's memory once."""
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes() // x.itemsize
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        function(**tensors, **options)
    return sum(kept.values())


@pytest.mark.parametrize("half", ["logits", "values"])
@pytest.mark.parametrize("border", ["zeros", "mask", "clamp", "wrap"])
def test_a_half_keeps_nothing_but_its_arguments(border: str, half: str) -> None:
    function, _, of = HALVES[half]
    optional = ALL if border == "zeros" else ("key_bias", "logit_bias")
    tensors = of(Case(3, 1, border, (6, 7), 2, 16, optional, True), torch.float32)
    kept = numbers_kept(function, tensors, kernel_size=3, border=border)
    assert kept <= sum(x.numel() for x in tensors.values())


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("backend", ["auto", *HAVE_HALVES])
def test_autocast_leaves_a_half_and_its_gradients_in_float32(backend: str, half: str) -> None:
    function, _, of = HALVES[half]
    tensors = of(SMALL[-1], torch.float32)
    wanted = results(function, tensors, **SMALL[-1].window, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        actual = results(function, tensors, **SMALL[-1].window, backend=backend)
    assert_same(list(actual.values()), list(wanted.values()), 1e-6)


def test_logits_and_weights_are_float32_at_least() -> None:
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        query, key, value = torch.randn(3, 1, 4, 2, 8).to(dtype)
        weights = slide_attention_weights(query, key)
        assert (
            slide_attention_logits(query, key).dtype
            == weights.dtype
            == torch.promote_types(dtype, torch.float32)
        )
        assert slide_attention_values(weights, value).dtype == dtype
        assert slide_attention_values(weights.to(dtype), value).dtype == dtype


def test_a_learned_scale_has_its_gradient() -> None:
    query, key = torch.randn(2, 1, 4, 5, 2, 8, dtype=torch.float64)
    scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(slide_attention_logits(query, key, scale=scale).square().sum(), scale)
    logits = slide_attention_logits(query, key, scale=1.0)
    torch.testing.assert_close(grad, 2 * 0.3 * logits.square().sum())


def test_the_automatic_choice_is_the_first_that_has_the_half(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    def fused(name: str) -> Function:
        def half(call: Any) -> Tensor:
            called.append(name)
            return table.find("reference").logits(call)

        return half

    maker = {"summary": "", "maps": 0, "maps_a_tap": 0, "attend": None, "automatic": True}
    rows = (
        table.Backend("without", **maker),
        table.Backend("refusing", **maker, logits=fused("refusing"), refusal=lambda call: "it is closed"),
        table.Backend("first", **maker, logits=fused("first")),
        table.Backend("second", **maker, logits=fused("second"), values=fused("second")),
        *table.BACKENDS,
    )
    monkeypatch.setattr(table, "BACKENDS", rows)
    slide_attention_weights(*torch.randn(2, 1, 4, 5, 2, 8))
    assert called == ["first"]
    with pytest.raises(ValueError, match="backend 'refusing' cannot take this call: it is closed"):
        slide_attention_logits(*torch.randn(2, 1, 4, 5, 2, 8), backend="refusing")


def test_a_batch_of_none_gives_a_batch_of_none() -> None:
    empty = torch.zeros(0, 4, 5, 2, 8, requires_grad=True)
    weights = slide_attention_weights(empty, empty)
    output = slide_attention_values(weights, empty)
    assert (weights.shape, output.shape) == ((0, 4, 5, 2, 9), empty.shape)
    output.sum().backward()
    assert empty.grad is not None
