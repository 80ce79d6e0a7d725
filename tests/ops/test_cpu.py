# SPDX-License-Identifier: Apache-2.0
"""The fused kernels in C, beyond the shared table: random shapes, threads, scratch memory, compilers."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from slideformer.ops import slide_attention
from slideformer.ops.call import TENSORS, Call, no_channels
from slideformer.ops.cpu import halves, library, operators
from tests.tiers import fast

from .cases import CASES, LONG, OPTIONS, OTHERS, SMALL, Case, assert_agrees, run

needs_library = pytest.mark.skipif(library.missing() is not None, reason=str(library.missing()))


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")
def test_the_library_is_there_where_there_is_a_compiler() -> None:
    assert library.missing() is None


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Small calls of every kind: maps smaller than the window, one column, odd channels, wide dilations."""
    axes, few = draw(st.integers(1, 3)), st.integers(1, 4)
    kernel = tuple(draw(st.sampled_from([1, 3, 5])) for _ in range(axes))
    dilation = tuple(draw(st.sampled_from([1, 2, 3, 40])) for _ in range(axes))
    longest = (40, 12, 5)[axes - 1]
    size = tuple(draw(st.integers(1, longest)) for _ in range(axes))
    spans = (step * (side - 1) for side, step in zip(kernel, dilation, strict=True))
    wraps = [length > span for length, span in zip(size, spans, strict=True)]
    border = tuple(draw(st.sampled_from(["zeros", "mask", "clamp", *["wrap"] * fits])) for fits in wraps)
    masked = draw(st.sampled_from([0.0, 0.0, 0.3, 1.0]))
    shifts = "mask" not in border and not (masked and "wrap" in border) and math.prod(kernel) <= 45
    options = OPTIONS["clamp" if "clamp" in border else "zeros" if shifts else "mask"]
    return Case(
        kernel,
        dilation,
        border,
        size,
        draw(few),
        draw(st.integers(1, 37)),
        draw(st.sampled_from(options)),
        draw(st.booleans()),
        batch=draw(st.sampled_from([1, 2, 9])),
        masked=masked,
    )


@needs_library
@settings(max_examples=80, deadline=None, derandomize=True)
@given(cases())
def test_random_calls_agree_with_the_reference(case: Case) -> None:
    assert_agrees(case, "cpu", torch.float32)


@needs_library
@pytest.mark.parametrize("case", [*CASES[::29], *OTHERS[::9], *LONG], ids=str)
def test_results_do_not_depend_on_the_threads(case: Case) -> None:
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(run(case, "cpu", torch.float32))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(results[0][name], other[name]) for name in other)


@needs_library
@pytest.mark.parametrize("case", [*CASES[::17], *OTHERS[::7], *OTHERS[-36::3], *LONG[::3]], ids=str)
def test_no_scratch_memory_is_read_before_it_is_written(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, c_call = run(case, "cpu", torch.float32), library.c_call

    def poisoning(call: Call, *, maps: Any, numbers: dict[str, Any]) -> Any:
        return c_call(call, maps=maps, numbers={**numbers, "poison": 1})

    monkeypatch.setattr(library, "c_call", poisoning)
    poisoned = run(case, "cpu", torch.float32)
    assert all(torch.equal(clean[name], poisoned[name]) for name in clean)


@needs_library
@pytest.mark.parametrize("case", LONG, ids=str)
def test_maps_and_heads_that_are_cut_agree_with_the_reference(case: Case) -> None:
    assert_agrees(case, "cpu", torch.float32)


@needs_library
@pytest.mark.parametrize("size", [(40,), (1100,), (6, 33), (70, 8), (5, 4, 9)], ids=str)
@pytest.mark.parametrize("deformed", [True, False], ids=["deformed", "plain"])
def test_a_roll_along_periodic_axes_commutes_with_the_operator(size: tuple[int, ...], deformed: bool) -> None:
    case = Case(3, 1, "wrap", size, 2, 16, ("shift_weight",) if deformed else (), True, batch=1)
    tensors = {name: x.detach() for name, x in case.tensors(torch.float32).items()}
    axes, shifts = tuple(range(1, 1 + len(size))), tuple(range(2, 2 + len(size)))
    rolled = {
        name: x.roll(shifts, axes) if name in ("query", "key", "value") else x for name, x in tensors.items()
    }
    output = slide_attention(**tensors, **case.window, backend="cpu")
    assert torch.equal(slide_attention(**rolled, **case.window, backend="cpu"), output.roll(shifts, axes))


@needs_library
@pytest.mark.parametrize("isa", fast(["baseline", "avx2", "avx512"]))
def test_every_instruction_set_agrees_with_the_reference(isa: str) -> None:
    code = (
        "import sys, torch\n"
        "from slideformer.ops.cpu import library\n"
        "from tests.ops.cases import CASES, OTHERS, assert_agrees\n"
        "if library.isa() is None: sys.exit(77)\n"
        "for case in (*CASES[::11], *OTHERS[::5]): assert_agrees(case, 'cpu', torch.float32)\n"
        "print(library.isa())\n"
    )
    environment = {**os.environ, "SLIDEFORMER_CPU_ISA": isa, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300
    )
    if done.returncode == 77:
        pytest.skip(f"this processor has no {isa}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == isa


@needs_library
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # the check's own
@pytest.mark.parametrize("case", SMALL[::5], ids=str)
def test_the_operators_keep_pytorchs_contract(case: Case) -> None:
    tensors = case.tensors(torch.float32)
    arguments = [tensors.get(name) for name in TENSORS]
    options = ([3, 3], [1, 1], [case.border] * 2, 0.2)
    torch.library.opcheck(operators.cpu_forward, (*arguments, *options))
    grad = torch.randn_like(tensors["value"])
    detached = [None if x is None else x.detach() for x in arguments]
    torch.library.opcheck(operators.cpu_backward, (grad, *detached, *options))


@needs_library
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # the check's own
@pytest.mark.parametrize("half", ["logits", "weights", "values"])
def test_the_operators_of_the_halves_keep_pytorchs_contract(half: str) -> None:
    case = Case(3, 1, ("clamp", "wrap"), (3, 5), 2, 20, ("relative",), False, masked=0.3)
    tensors = case.tensors(torch.float32) | {"key_mask": case.mask()}
    forward, backward = getattr(halves, f"cpu_{half}"), getattr(halves, f"cpu_{half}_backward")
    if half != "values":
        tensors["value"] = no_channels(tensors["value"])
    else:
        weights = torch.rand(*tensors["query"].shape[:-1], 9, requires_grad=True)
        tensors |= {"query": weights, "key": no_channels(tensors["key"]), "logit_bias": None}
    arguments = [tensors.get(name) for name in TENSORS]
    options = ([3, 3], [1, 1], ["clamp", "wrap"], 1.0)
    torch.library.opcheck(forward, (*arguments, *options))
    detached = [None if x is None else x.detach() for x in arguments]
    grad = torch.randn_like(forward(*detached, *options))
    torch.library.opcheck(backward, (grad, *detached, *options))


@needs_library
def test_it_compiles_as_one_graph() -> None:
    case = Case(3, 1, "zeros", (6, 9), 2, 8, ("shift_weight", "key_bias"), False)
    tensors = case.tensors(torch.float32)

    def function(**named: Tensor) -> Tensor:
        return slide_attention(**named, **case.window, backend="cpu")

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**tensors), function(**tensors))


@needs_library
def test_it_is_chosen_where_torch_compiles() -> None:
    # The compiler of PyTorch 2.11 says of itself that it exports, and what exports takes another backend.
    case, called = Case(3, 1, "zeros", (6, 9), 2, 8, ("shift_weight",), False), []

    def keep(graph: torch.fx.GraphModule, example: object) -> Callable[..., object]:
        called.extend(node.target for node in graph.graph.nodes)
        return graph.forward

    torch.compile(slide_attention, fullgraph=True, backend=keep)(**case.tensors(torch.float32), **case.window)
    assert torch.ops.slideformer.cpu_forward.default in called


@needs_library
def test_a_second_derivative_is_refused_with_the_way_out() -> None:
    tensors = SMALL[0].tensors(torch.float32)
    output = slide_attention(**tensors, **SMALL[0].window, backend="cpu")
    (grad,) = torch.autograd.grad(output.square().sum(), tensors["query"], create_graph=True)
    with pytest.raises(NotImplementedError, match='pass backend="matmul"'):
        grad.sum().backward()


def total(_: object = None) -> float:
    """What a worker process of a loader may compute after a fork."""
    return float(slide_attention(*torch.ones(3, 1, 20, 20, 2, 8), backend="cpu").sum())


@needs_library
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_can_use_it() -> None:
    wanted = total()
    with torch.multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map_async(total, [0]).get(timeout=60) == [wanted]


FORK = """
import os, torch
from slideformer.ops import slide_attention
torch.set_num_threads(2)
maps = torch.randn(3, 2, 64, 64, 2, 32)
def whole():
    return slide_attention(*maps, backend="cpu").numpy().tobytes()
wanted = whole()
child = os.fork()
if child == 0:
    os._exit(0 if whole() == wanted else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@needs_library
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_several_threads_do_the_same_after_a_fork() -> None:
    # PyTorch's own threads are running when the fork leaves them behind.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


@needs_library
def test_what_it_cannot_take_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be float32, float16 or bfloat16, got torch\.float64"):
        slide_attention(*torch.randn(3, 1, 4, 4, 1, 4, dtype=torch.float64), backend="cpu")


def test_a_missing_library_says_how_to_get_it() -> None:
    library.load.cache_clear()
    with pytest.warns(UserWarning, match="runs without its fast CPU kernels"):
        reason = library.load(None)
    assert isinstance(reason, str)
    assert "install GCC or Clang and pip install it again" in reason
    library.load.cache_clear()
