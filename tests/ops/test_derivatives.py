# SPDX-License-Identifier: Apache-2.0
"""Every derivative and transform is that of the plain formula, or is refused in one line."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.utils.checkpoint import checkpoint

from slideformer.layers import NeighborhoodAttention, SlideAttention
from slideformer.ops import derivatives, slide_attention
from tests.tiers import fast

from .cases import FUSED, ON_CPU, Case
from .forms import FORMS, assert_same, differentiated, flat, function_of, inputs_of, scalar

# PyTorch's own, where it differentiates forward.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning"),
]
needs_library = pytest.mark.skipif("cpu" not in ON_CPU, reason="needs libslideformer")

ALL = ("shift_weight", "shift_bias", "key_bias", "logit_bias")
DEFORMED = Case((1, 3), 1, "zeros", (2, 3), 1, 2, ALL, False)
PLAIN = Case(3, 1, "zeros", (2, 3), 1, 2, ("shift_bias", "key_bias"), True)
MASK = Case((1, 3), (1, 2), "mask", (2, 3), 2, 2, ("key_bias", "logit_bias"), False)
CLAMP = Case(3, 1, "clamp", (2, 3), 1, 2, ("relative",), True)
CASES = {"deformed": DEFORMED, "plain": PLAIN, "mask": MASK, "clamp": CLAMP}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}


@functools.cache
def wanted(case: Case, form: str) -> Any:
    return FORMS[form](function_of(case, "reference"), inputs_of(case, torch.float64))


# These take long; one of each is in the fast tier.
LONG = ("autograd.functional.hessian", "linearize")
AUTOMATIC = list(itertools.product(CASES, (torch.float64, torch.float32), FORMS))


@pytest.mark.parametrize(
    ("case", "dtype", "form"),
    [
        pytest.param(
            CASES[name],
            dtype,
            form,
            id=f"{name}-{dtype}-{form}",
            marks=[pytest.mark.slow] if form in LONG and (name, dtype) != ("mask", torch.float32) else [],
        )
        for name, dtype, form in AUTOMATIC
    ],
)
def test_every_form_is_right_with_the_automatic_choice(case: Case, dtype: torch.dtype, form: str) -> None:
    actual = FORMS[form](function_of(case, "auto"), inputs_of(case, dtype))
    assert_same(actual, wanted(case, form), TOLERANCE[dtype])


@pytest.mark.parametrize("form", fast(FORMS, *(form for form in FORMS if form not in LONG)))
@pytest.mark.parametrize("backend", [name for name in ON_CPU if name not in (*FUSED, "reference", "matmul")])
def test_every_form_is_right_with_ordinary_operators(backend: str, form: str) -> None:
    actual = FORMS[form](function_of(DEFORMED, backend), inputs_of(DEFORMED, torch.float64))
    assert_same(actual, wanted(DEFORMED, form), 1e-10)


PAGE = Path(__file__).parents[2] / "docs" / "operator.md"
REFUSAL = re.compile(r"backend 'cpu' has no [a-z ]+; pass backend=\"matmul\" or backend=\"auto\"")
ROW = re.compile(r"^\| `(.+)` \| (fused|portable|refused) \| (fused|portable|refused) \|", re.MULTILINE)


def how(form: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether a form is computed by the kernels alone, by ordinary operators too, or not at all."""
    used, attention = [], derivatives.portable_output

    def spy(*arguments: Any) -> Any:
        used.append(arguments)
        return attention(*arguments)

    monkeypatch.setattr(derivatives, "portable_output", spy)
    try:
        FORMS[form](function_of(DEFORMED, backend), inputs_of(DEFORMED, torch.float32))
    except NotImplementedError as error:
        return "refused" if REFUSAL.fullmatch(str(error)) else str(error)
    return "portable" if used else "fused"


@needs_library
@pytest.mark.parametrize("form", FORMS)
def test_the_page_says_how_each_form_runs(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {name: cells for name, *cells in ROW.findall(PAGE.read_text())}
    assert list(rows) == list(FORMS)
    automatic, named = (how(form, backend, monkeypatch) for backend in ("auto", "cpu"))
    assert rows[form][:2] == [automatic, named]


# Arguments that depend on each other, made of one map and of parameters that are or are not made of it.
Arguments = Callable[[dict[str, Tensor]], dict[str, Tensor]]
DEPENDENT: dict[str, Arguments] = {
    "one tensor as all three": lambda x: {**x, "key": x["query"], "value": x["query"]},
    "key made from query": lambda x: {**x, "key": x["query"].sin()},
    "value is key": lambda x: {**x, "value": x["key"]},
    "parameters made from the map": lambda x: {
        name: y if y.ndim == 5 else y * (1 + x["query"].square().mean()) for name, y in x.items()
    },
    "value made from all": lambda x: {**x, "value": x["value"] * sum(y.sum() for y in x.values())},
}


def dependent(case: Case, backend: str, made: Arguments) -> Callable[..., Tensor]:
    names = list(case.tensors())
    return lambda *x: slide_attention(
        **made(dict(zip(names, x, strict=True))), **case.window, backend=backend
    )


@pytest.mark.parametrize("made", DEPENDENT.values(), ids=DEPENDENT)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("backend", [*ON_CPU, "auto"])
def test_dependent_arguments_count_every_path_once(backend: str, case: Case, made: Arguments) -> None:
    truth, dtype = dependent(case, "reference", made), torch.float32 if backend in FUSED else torch.float64
    function = dependent(case, backend, made)

    def first(function: Callable[..., Tensor], dtype: torch.dtype, create_graph: bool) -> tuple[Tensor, ...]:
        x = tuple(y.requires_grad_() for y in inputs_of(case, dtype))
        return torch.autograd.grad(
            scalar(function)(*x), x, create_graph=create_graph, materialize_grads=True, allow_unused=True
        )

    expected = first(truth, torch.float64, False)
    for create_graph in (False, True):
        assert_same(first(function, dtype, create_graph), expected, TOLERANCE[dtype])
    if backend in FUSED:
        return
    query, *rest = inputs_of(case, dtype)

    def hessian(function: Callable[..., Tensor]) -> Any:
        return torch.autograd.functional.hessian(scalar(lambda query: function(query, *rest)), query)

    assert_same(hessian(function), hessian(truth), TOLERANCE[dtype])


def test_the_gradient_of_one_map_as_all_three_is_not_tripled() -> None:
    x = torch.randn(1, 3, 3, 1, 2, dtype=torch.float64, requires_grad=True)
    output = slide_attention(x, x, x, backend="matmul").sum()
    (plain,) = torch.autograd.grad(output, x, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(output, x, create_graph=True)[0], plain)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_pytorchs_own_checks_pass(case: Case) -> None:
    inputs = tuple(x.requires_grad_() for x in inputs_of(case, torch.float64))
    function = function_of(case, "auto")
    batched = {"check_batched_grad": True, "fast_mode": True}
    forward = {"check_forward_ad": True, "check_batched_forward_grad": True}
    assert torch.autograd.gradcheck(function, inputs, **forward, **batched)
    assert torch.autograd.gradgradcheck(function, inputs, check_fwd_over_rev=True, **batched)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_second_derivatives_pass_hooks_of_saved_tensors(dtype: torch.dtype) -> None:
    wanted = differentiated(2)(function_of(DEFORMED, "reference"), inputs_of(DEFORMED, torch.float64))
    with torch.autograd.graph.save_on_cpu():
        actual = differentiated(2)(function_of(DEFORMED, "auto"), inputs_of(DEFORMED, dtype))
    assert_same(actual, wanted, TOLERANCE[dtype])


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_gives_the_same_gradients(reentrant: bool) -> None:
    x = tuple(y.requires_grad_() for y in inputs_of(DEFORMED, torch.float32))
    function = function_of(DEFORMED, "auto")
    kept = checkpoint(function, *x, use_reentrant=reentrant)
    grads = [
        torch.autograd.grad(y.sum(), x) if not reentrant else backward(y, x) for y in (kept, function(*x))
    ]
    assert_same(*grads, 1e-6)


def backward(output: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    for x in inputs:
        x.grad = None
    output.sum().backward()
    return tuple(x.grad.clone() for x in inputs if x.grad is not None)


LAYERS = {
    "slide": lambda: SlideAttention(8, 2),
    "plain": lambda: SlideAttention(8, 2, deform=False, border="mask"),
    "neighborhood": lambda: NeighborhoodAttention(8, 2, kernel_size=3),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_gradients_of_each_sample_of_a_layer_are_those_of_a_loop(make: Callable[[], nn.Module]) -> None:
    layer, x = make(), torch.randn(3, 4, 5, 8)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(layer, parameters, (x[None],)).square().sum()

    each = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    for i, sample in enumerate(x):
        alone = torch.autograd.grad(layer(sample[None]).square().sum(), list(layer.parameters()))
        assert_same([y[i] for y in each.values()], alone, 1e-5)


@pytest.mark.parametrize("name", fast(["grad", "jvp", "vmap", "forward_ad"], "vmap"))
def test_transforms_can_be_compiled(name: str) -> None:
    inputs = inputs_of(PLAIN, torch.float32)
    function = function_of(PLAIN, "auto")
    forms = {
        "grad": lambda x: grad(scalar(lambda query: function(query, *inputs[1:])))(x),
        "jvp": lambda x: jvp(lambda query: function(query, *inputs[1:]), (x,), (x,))[1],
        "vmap": lambda x: vmap(lambda query: function(query, *inputs[1:]))(x[None]),
        "forward_ad": lambda x: FORMS["forward_ad"](lambda query: function(query, *inputs[1:]), (x,)),
    }
    compiled = torch.compile(forms[name], backend="aot_eager")
    assert_same(compiled(inputs[0]), forms[name](inputs[0]), 1e-5)


AUTOCAST = {"outside": nullcontext, "inside": lambda: torch.autocast("cpu", torch.bfloat16)}


@pytest.mark.parametrize("inside", AUTOCAST.values(), ids=[f"backward {word}" for word in AUTOCAST])
@pytest.mark.parametrize("around", AUTOCAST.values(), ids=[f"forward {word}" for word in AUTOCAST])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("backend", [name for name in ("cpu", "matmul") if name in ON_CPU])
def test_a_backward_pass_has_the_precision_of_its_call(
    backend: str, case: Case, dtype: torch.dtype, around: Any, inside: Any
) -> None:
    def gradients(around: Any, inside: Any) -> tuple[Tensor, ...]:
        x = tuple(y.requires_grad_() for y in inputs_of(case, dtype))
        with around():
            output = scalar(function_of(case, backend))(*x)
        with inside():
            return torch.autograd.grad(output, x)

    plain = gradients(nullcontext, nullcontext)
    assert all(torch.equal(x, y) for x, y in zip(gradients(around, inside), plain, strict=True))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("backend", ["conv", "shift", "unfold", "reference"])
def test_a_training_step_under_autocast_has_the_precision_of_the_call(backend: str, case: Case) -> None:
    def gradients(around: Any) -> tuple[Tensor, ...]:
        x = tuple(y.requires_grad_() for y in inputs_of(case, torch.float32))
        with around():
            return torch.autograd.grad(scalar(function_of(case, backend))(*x), x)

    assert_same(gradients(AUTOCAST["inside"]), gradients(nullcontext), 1e-6)


def test_second_derivatives_have_the_precision_of_their_call() -> None:
    function, inputs = function_of(DEFORMED, "auto"), inputs_of(DEFORMED, torch.float32)
    plain = flat(differentiated(2)(function, inputs)), flat(FORMS["jvp"](function, inputs))
    with torch.autocast("cpu", torch.bfloat16):
        cast = flat(differentiated(2)(function, inputs)), flat(FORMS["jvp"](function, inputs))
    assert_same(cast, plain, 1e-5)
