# SPDX-License-Identifier: Apache-2.0
"""Triton's kernels under its interpreter, on CPU tensors: all of their logic, none of their speed.

`tests/gpu` holds them to the whole table of cases on a GPU, `test_triton_compiles` compiles them for one.
"""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from slideformer.ops import slide_attention
from slideformer.ops import triton as package
from slideformer.ops.call import TENSORS
from slideformer.ops.window import BORDERS
from tests.tiers import fast

from .cases import OTHERS, Case, assert_agrees, of_axes, run
from .forms import FORMS, assert_same, function_of, inputs_of

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="tests/gpu runs the kernels themselves"),
]


ALL = ("shift_weight", "shift_bias", "key_bias", "logit_bias")
# Small, as the interpreter takes a second for some tens of programs; a tile is 4 x 8 positions.
EVERYTHING = Case(3, 1, "zeros", (5, 9), 2, 20, ALL, False, batch=1)
PLAIN = Case(3, 1, "zeros", (5, 9), 2, 20, ("shift_bias", "key_bias", "logit_bias"), False, batch=1)
# The same on a map of one tile, for what does not depend on the number of tiles.
SMALL = replace(EVERYTHING, size=(2, 3), heads=1, channels=4)
MASK = Case(3, 2, "mask", (5, 7), 2, 4, ("key_bias", "logit_bias"), True, batch=1)
CLAMP = Case(3, 1, "clamp", (5, 9), 2, 4, ("relative", "key_bias"), False, batch=1)
CASES = (
    EVERYTHING,
    PLAIN,
    MASK,
    CLAMP,
    Case(3, 1, "zeros", (4, 4), 1, 32, ("shift_weight",), True),
    Case(3, 2, "zeros", (9, 1), 1, 48, ("shift_weight", "key_bias"), False, batch=1),
    Case((3, 5), (1, 3), "zeros", (2, 9), 1, 4, ("shift_weight", "shift_bias"), True, batch=1),
    Case(5, 1, "zeros", (2, 2), 1, 16, ("shift_weight", "shift_bias", "logit_bias"), True, batch=1),
    Case(1, 1, "zeros", (1, 1), 3, 4, ("shift_weight",), True),
    Case(3, 1, "zeros", (5, 7), 1, 32, (), False),
    Case((3, 5), 9, "mask", (4, 9), 1, 20, ("logit_bias",), False),
    Case((1, 5), 2, "clamp", (1, 20), 1, 4, ("logit_bias",), True, batch=1),
    Case(5, (1, 3), "clamp", (7, 9), 1, 4, ("relative",), True, batch=1),
    Case(3, 9, "clamp", (2, 3), 1, 4, ("relative",), True, batch=1),
)
# Maps of one and three axes, mixed and periodic borders, masks; a tile of a map of one row is 1 x 32.
SEQUENCE = Case(5, 2, "wrap", (9,), 2, 4, ("key_bias", "logit_bias"), False, batch=1, masked=0.4)
VOLUME = Case(
    (3, 1, 3), (1, 1, 2), ("mask", "clamp", "wrap"), (2, 2, 5), 1, 4, ("relative",), True, batch=1, masked=0.2
)
GLOBE = Case(3, 1, ("zeros", "wrap"), (3, 4), 1, 20, ALL, False, batch=1)
MAPS = (
    SEQUENCE,
    VOLUME,
    GLOBE,
    Case(3, 1, ("clamp", "wrap"), (5, 9), 1, 4, ("relative", "key_bias"), False, batch=1, masked=0.1),
    Case(3, (1, 2), ("mask", "zeros"), (4, 9), 1, 4, ("logit_bias",), False, batch=1, masked=1.0),
    Case(7, 1, "clamp", (40,), 1, 4, ("relative",), True, batch=1),
    Case(3, 2, "wrap", (40,), 2, 32, ("shift_weight", "shift_bias", "key_bias"), False, batch=1),
    Case(17, 1, "zeros", (40,), 1, 4, ("shift_bias",), False, batch=1),
    Case(3, 1, "clamp", (3, 4, 5), 1, 4, ("relative",), False, batch=1),
    Case((1, 3, 3), 1, ("zeros", "wrap", "mask"), (2, 5, 6), 1, 20, (), True),
    Case((3, 1, 3), 1, ("wrap", "zeros", "zeros"), (3, 2, 5), 2, 4, ALL, False, batch=1),
    Case(3, 1, "wrap", (3, 3, 3), 1, 4, ("shift_weight",), True, batch=1),
    *OTHERS[::16],
)


@pytest.fixture(autouse=True, scope="module")
def _cpu_tensors_may_pass() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "DEVICES", ("cuda", "cpu"))
        yield


# The interpreter is slow: of each kind of call one row is in the fast tier.
@pytest.mark.parametrize(
    "case", fast(CASES + MAPS, PLAIN, *CASES[11:12], *CASES[13:], SEQUENCE, VOLUME, GLOBE), ids=str
)
def test_values_and_gradients_agree_in_float32(case: Case) -> None:
    assert_agrees(case, "triton", torch.float32)


@pytest.mark.parametrize("dtype", fast([torch.float16, torch.bfloat16]), ids=str)
@pytest.mark.parametrize("case", fast([replace(EVERYTHING, channels=32), PLAIN, MASK], MASK), ids=str)
def test_values_and_gradients_agree_in_half_precision(case: Case, dtype: torch.dtype) -> None:
    assert_agrees(case, "triton", dtype)


@st.composite
def random_cases(draw: st.DrawFn) -> Case:
    size = draw(
        st.lists(st.integers(1, 9), min_size=1, max_size=3).filter(lambda size: math.prod(size) <= 90)
    )
    kernel = tuple(draw(st.sampled_from([1, 3])) for _ in size)
    dilation = tuple(draw(st.integers(1, 5)) for _ in size)
    periodic = (n > step * (side - 1) for n, side, step in zip(size, kernel, dilation, strict=True))
    border = tuple(draw(st.sampled_from(BORDERS if fits else BORDERS[:-1])) for fits in periodic)
    optional = draw(st.sampled_from([(), ALL])) if set(border) <= {"zeros", "wrap"} else ("logit_bias",)
    masked = draw(st.sampled_from([0.0, 0.5])) if set(border) == {"zeros"} or optional != ALL else 0.0
    channels = draw(st.integers(1, 35))
    return Case(kernel, dilation, border, tuple(size), 1, channels, optional, False, batch=1, masked=masked)


@pytest.mark.slow
@settings(max_examples=10, deadline=None, derandomize=True)
@given(case=random_cases())
def test_any_size_agrees(case: Case) -> None:
    assert_agrees(case, "triton", torch.float32)


@pytest.mark.parametrize("case", fast([EVERYTHING, CLAMP, SEQUENCE, VOLUME], SEQUENCE), ids=str)
def test_nothing_depends_on_memory_that_was_not_written(case: Case) -> None:
    # Deterministic mode fills fresh memory with NaN.
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1).isnan()
        assert_agrees(case, "triton", torch.float32)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("case", fast([EVERYTHING, PLAIN, CLAMP, GLOBE, SEQUENCE, VOLUME], SEQUENCE), ids=str)
def test_nothing_around_the_maps_is_read(case: Case) -> None:
    tensors = {name: x.detach() for name, x in replace(case, masked=0).tensors(torch.float32).items()}
    framed = {name: frame(x) if name in ("query", "key", "value") else x for name, x in tensors.items()}
    plain = slide_attention(**tensors, **case.window, backend="triton")
    assert torch.equal(plain, slide_attention(**framed, **case.window, backend="triton"))


def frame(x: Tensor) -> Tensor:
    """The same map with every stride of its own, NaN all around it."""
    batch, *size, heads, channels = x.shape
    room = x.new_full((batch, channels + 1, *(n + 4 for n in size), heads + 1), torch.nan)
    inside = (slice(None), *(slice(2, -2) for _ in size), slice(heads), slice(channels))
    return room.movedim(1, -1)[inside].copy_(x)


@pytest.mark.parametrize("case", fast([EVERYTHING, PLAIN, CLAMP, GLOBE], PLAIN), ids=str)
def test_addresses_have_64_bits(case: Case, tmp_path: Path) -> None:
    # Rows that lie 2**30 elements apart, in a file of which only what is written takes room.
    tensors = replace(case, size=(4, 3), heads=1, channels=4).tensors(torch.float32)
    far = {name: x.detach() for name, x in tensors.items()}
    for name in ("query", "key", "value"):
        file = torch.from_file(str(tmp_path / name), shared=True, size=2**32, dtype=torch.float32)
        rows = file.as_strided(tensors[name].shape, (2**32, 2**30, 4, 4, 1))
        far[name] = rows.copy_(tensors[name]).detach().requires_grad_()
    maps = [tensors[name] for name in ("query", "key", "value")]
    near = slide_attention(**tensors, **case.window, backend="triton")
    output = slide_attention(**far, **case.window, backend="triton")
    assert torch.equal(output, near)
    wanted = torch.autograd.grad(near.square().sum(), maps)
    grads = torch.autograd.grad(output.square().sum(), [far[name] for name in ("query", "key", "value")])
    assert all(torch.equal(x, y) for x, y in zip(grads, wanted, strict=True))


@pytest.mark.parametrize("case", fast([EVERYTHING, PLAIN, GLOBE], GLOBE), ids=str)
def test_the_same_call_twice_is_equal_to_the_bit(case: Case) -> None:
    first, second = (run(case, "triton", torch.float32) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_gradient_that_nobody_needs_is_not_computed() -> None:
    tensors = SMALL.tensors(torch.float32)
    wanted = torch.autograd.grad(
        slide_attention(**tensors, **SMALL.window, backend="reference").sum(), tensors["value"]
    )
    frozen = {name: x if name == "value" else x.detach() for name, x in tensors.items()}
    output = slide_attention(**frozen, **SMALL.window, backend="triton")
    torch.testing.assert_close(torch.autograd.grad(output.sum(), tensors["value"]), wanted)


@pytest.mark.parametrize("case", [EVERYTHING, CLAMP], ids=str)
def test_a_batch_of_none_gives_a_batch_of_none(case: Case) -> None:
    tensors = replace(case, batch=0).tensors(torch.float32)
    output = slide_attention(**tensors, **case.window, backend="triton")
    assert output.shape == tensors["value"].shape
    output.sum().backward()
    grad = tensors["key_bias"].grad
    assert grad is not None
    assert not grad.any()


def test_value_may_have_channels_of_its_own() -> None:
    query, key = torch.randn(2, 1, 4, 5, 2, 8)
    value = torch.randn(1, 4, 5, 2, 3, requires_grad=True)
    output, wanted = (
        slide_attention(query, key, value, border="mask", backend=backend)
        for backend in ("triton", "reference")
    )
    torch.testing.assert_close(output, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), value)[0] for y in (output, wanted)))


def test_large_logits_stay_finite_in_half_precision() -> None:
    query = torch.full((1, 3, 3, 1, 32), 60.0, dtype=torch.float16)
    output = slide_attention(query, query, query, border="mask", backend="triton")
    torch.testing.assert_close(output, query)


def test_a_query_that_sees_nothing_gets_zeros_whatever_it_is() -> None:
    query, key, value = (x.requires_grad_() for x in torch.randn(3, 1, 6, 1, 16))
    with torch.no_grad():
        query[0, 0] = torch.nan
    exists = torch.tensor([[False] * 4 + [True, False]])
    output = slide_attention(query, key, value, border="mask", key_mask=exists, backend="triton")
    grads = torch.autograd.grad(output.sum(), (query, key, value))
    assert not output[0, 0].any()
    assert not grads[0][0, 0].any()
    assert all(grad.isfinite().all() for grad in grads)


COMPACT = replace(CLAMP, size=(2, 3), heads=1, contiguous=True)


def arguments(case: Case) -> tuple[Any, ...]:
    """The forward operator's arguments for a case, in float32."""
    tensors = case.tensors(torch.float32)
    mask = case.mask()
    if mask is not None:
        tensors = {**tensors, "key_mask": mask, "key": torch.ones_like(tensors["key"])}
        tensors["value"] = tensors["key"]
    options = (list(of_axes(option, len(case.size))) for option in case.window.values())
    return (*(tensors.get(name) for name in TENSORS), *options, 0.5)


# The check itself looks at gradients of tensors that have none.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(
    "case", fast([replace(SMALL, channels=20, contiguous=True), COMPACT, VOLUME], COMPACT), ids=str
)
def test_the_operators_keep_torch_rules(case: Case) -> None:
    from slideformer.ops.triton import operators  # imports Triton

    forward = arguments(case)
    torch.library.opcheck(operators.triton_forward, forward)
    detached = [x.detach() if isinstance(x, Tensor) else x for x in forward]
    output, log_sum = operators.triton_forward(*detached)
    wanted = [isinstance(x, Tensor) and x.is_floating_point() for x in detached[: len(TENSORS)]]
    grad = torch.randn_like(output)
    torch.library.opcheck(operators.triton_backward, (grad, output, log_sum, *detached, wanted))


def test_compiled_in_one_graph_it_gives_the_same() -> None:
    tensors = SMALL.tensors(torch.float32)

    def function(**tensors: Tensor) -> Tensor:
        return slide_attention(**tensors, **SMALL.window, backend="triton")

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    wanted = list(tensors.values())
    eager, graph = (torch.autograd.grad(f(**tensors).sum(), wanted) for f in (function, compiled))
    assert all(torch.equal(x, y) for x, y in zip(eager, graph, strict=True))


def test_operations_are_counted() -> None:
    case = replace(EVERYTHING, size=(3, 4), channels=5)
    tensors = case.tensors(torch.float32)
    with FlopCounterMode(display=False) as counter:
        output = slide_attention(**tensors, **case.window, backend="triton")
    multiply_adds = 3 * 4 * 2 * 2 * 5 * (9 + 81)
    assert counter.get_total_flops() == 2 * multiply_adds
    with FlopCounterMode(display=False) as counter:
        output.sum().backward()
    assert counter.get_total_flops() == 7 * multiply_adds


def test_second_derivatives_name_the_backend_that_has_them() -> None:
    tensors = CASES[4].tensors(torch.float32)
    output = slide_attention(**tensors, **CASES[4].window, backend="triton")
    (grad,) = torch.autograd.grad(output.square().sum(), tensors["query"], create_graph=True)
    with pytest.raises(NotImplementedError, match='pass backend="matmul"'):
        grad.sum().backward()


BEYOND = ("jvp", "second derivatives", "grad, is_grads_batched")


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "form", fast(["vmap of grad", "vmap over the maps", *BEYOND], "vmap over the maps", *BEYOND)
)
@pytest.mark.parametrize("case", fast([EVERYTHING, CLAMP]), ids=str)
def test_forms_of_derivatives_are_right_or_refused(case: Case, form: str) -> None:
    case = replace(case, size=(2, 3), heads=1, channels=4)
    wanted = FORMS[form](function_of(case, "reference"), inputs_of(case, torch.float64))
    named, automatic = (function_of(case, backend) for backend in ("triton", "auto"))
    able = automatic if form in BEYOND else named
    assert_same(FORMS[form](able, inputs_of(case, torch.float32)), wanted, 2e-4)
    if form not in BEYOND:
        return
    with pytest.raises(NotImplementedError, match=r"backend 'triton' has no .*; pass backend=.matmul."):
        FORMS[form](named, inputs_of(case, torch.float32))


def test_float64_is_refused() -> None:
    query = torch.zeros(1, 2, 2, 1, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"must be float32, float16 or bfloat16, got torch\.float64"):
        slide_attention(query, query, query, backend="triton")


def test_a_shift_too_long_for_shared_memory_is_refused() -> None:
    query, weight = torch.zeros(1, 9, 1, 2), torch.zeros(2, 65, 65)
    with pytest.raises(ValueError, match="at most 63 taps along the last axis, got 65; use 'matmul'"):
        slide_attention(query, query, query, kernel_size=65, shift_weight=weight, backend="triton")


def test_another_device_is_refused() -> None:
    query = torch.zeros(1, 2, 2, 1, 4, device="meta")
    with pytest.raises(ValueError, match="must be on a CUDA or XPU device, got meta"):
        slide_attention(query, query, query, backend="triton")


class Failing:
    """A kernel that does not compile."""

    arg_names: tuple[str, ...] = ("query", "query_strides", "key", "key_strides", "value", "value_strides")

    def __getitem__(self, grid: Any) -> Any:
        raise RuntimeError("ptxas: no such instruction")


@pytest.mark.parametrize("backend", ["triton", "auto"])
def test_a_kernel_that_does_not_compile_shows_the_compilers_message(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slideformer.ops.triton import plans, tuning  # imports Triton

    plans.plan_of.cache_clear()
    monkeypatch.setattr(tuning, "FORWARD_PLAIN", Failing())
    query = torch.zeros(1, 2, 2, 1, 4)
    with pytest.raises(RuntimeError, match="ptxas: no such instruction"):
        slide_attention(query, query, query, backend=backend)


@pytest.mark.slow  # a process of its own
def test_without_triton_everything_else_works() -> None:
    script = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "triton" else find(name, *rest)
import torch
from slideformer.ops import slide_attention
query = torch.zeros(1, 2, 2, 1, 4)
slide_attention(query, query, query)
try:
    slide_attention(query, query, query, backend="triton")
except ValueError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300
    )
    assert "Triton is not installed; use pip install triton" in done.stdout
