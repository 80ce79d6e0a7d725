# SPDX-License-Identifier: Apache-2.0
"""The two halves of the operator by Triton's kernels under its interpreter, against the plain formula."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from slideformer.ops import functional, reference
from slideformer.ops.call import PARAMETERS, TENSORS, Call
from slideformer.ops.flat import flat
from tests.tiers import fast

from .cases import TOLERANCE, Case
from .test_triton import ALL, CLAMP, EVERYTHING, GLOBE, MASK, PLAIN, SEQUENCE, VOLUME

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="tests/gpu runs the kernels themselves"),
]

Named = dict[str, Tensor]
SMALL = replace(EVERYTHING, size=(2, 3), heads=1, channels=4)
CASES = (
    GLOBE,
    SEQUENCE,
    VOLUME,
    MASK,
    EVERYTHING,
    PLAIN,
    CLAMP,
    replace(GLOBE, channels=48, size=(2, 5), optional=("shift_weight",)),
    Case((3, 1, 3), 1, ("wrap", "zeros", "zeros"), (3, 2, 5), 2, 4, ALL, False, batch=1),
    Case(3, 1, ("clamp", "wrap"), (5, 9), 1, 4, ("relative", "key_bias"), False, batch=1, masked=0.3),
)


def logits_call(case: Case, tensors: Named) -> Call:
    """The first half of a case: its value has no channels."""
    query, key, *_ = tensors.values()
    call = checked(case, query, key, key, tensors)
    return replace(call, value=key.detach()[..., :0])


def values_call(case: Case, tensors: Named) -> Call:
    """The second half of a case: its key has no channels, and its query are the weights."""
    value = tensors["value"]
    call = checked(case, value, value, value, tensors)
    return replace(call, query=tensors["weights"], key=value.detach()[..., :0], key_mask=None)


def checked(case: Case, query: Tensor, key: Tensor, value: Tensor, tensors: Named) -> Call:
    window = (case.kernel_size, case.dilation, case.border)
    parameters = [tensors.get(name) for name in PARAMETERS]
    return functional.checked(query, key, value, window, parameters, key_mask=case.mask()).existing()


def logits_tensors(case: Case, dtype: torch.dtype) -> Named:
    return {name: x for name, x in case.tensors(dtype).items() if name != "value"}


def values_tensors(case: Case, dtype: torch.dtype) -> Named:
    tensors = case.tensors(dtype)
    shape = (*tensors["value"].shape[:-1], math.prod(case.sides))
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    kept = {name: x for name, x in tensors.items() if name in ("value", "shift_weight", "shift_bias")}
    return {"weights": weights.to(torch.promote_types(dtype, torch.float32)).requires_grad_(), **kept}


def fused(half: str) -> Callable[[Call], Tensor]:
    from slideformer.ops.triton import halves  # imports Triton

    operator = getattr(halves, f"triton_{half}")
    return lambda call: operator(*flat(call))


Half = tuple[Callable[[Case, Named], Call], Callable[[Case, torch.dtype], Named], Callable[[Call], Tensor]]
HALVES: dict[str, Half] = {
    "logits": (logits_call, logits_tensors, reference.logits),
    "values": (values_call, values_tensors, reference.values),
}


def results(case: Case, half: str, dtype: torch.dtype, function: Callable[[Call], Tensor]) -> Named:
    """The output and the gradient of every tensor, by name, in float64."""
    of_call, of_tensors, _ = HALVES[half]
    tensors = of_tensors(case, dtype)
    output = function(of_call(case, tensors))
    grad = torch.randn(output.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grads = torch.autograd.grad(output, list(tensors.values()), grad.to(output.dtype))
    found = {"output": output.detach(), **dict(zip(tensors, grads, strict=True))}
    return {name: x.double() for name, x in found.items()}


def assert_agrees(case: Case, half: str, dtype: torch.dtype) -> None:
    wanted = results(case, half, torch.float64, HALVES[half][2])
    # Fresh memory is NaN then.
    torch.use_deterministic_algorithms(True)
    try:
        actual = results(case, half, dtype, fused(half))
    finally:
        torch.use_deterministic_algorithms(False)
    scale = max(1.0, *(float(x[x != -torch.inf].abs().max()) for x in wanted.values() if x.isfinite().any()))
    for name, x in wanted.items():
        infinite = x == -torch.inf
        assert torch.equal(actual[name] == -torch.inf, infinite), name
        error = float((actual[name] - x).masked_fill(infinite, 0).abs().max()) / scale
        assert error <= TOLERANCE[dtype], f"{name}: relative error {error:.2e}"


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("case", fast(CASES, GLOBE, SEQUENCE), ids=str)
def test_values_and_gradients_agree_in_float32(case: Case, half: str) -> None:
    assert_agrees(case, half, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("case", [replace(EVERYTHING, channels=32), PLAIN, MASK], ids=str)
def test_values_and_gradients_agree_in_half_precision(case: Case, half: str, dtype: torch.dtype) -> None:
    assert_agrees(case, half, dtype)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("half", HALVES)
def test_the_operators_keep_torch_rules(half: str) -> None:
    from slideformer.ops.triton import halves  # imports Triton

    case = replace(SMALL, contiguous=True)
    of_call, of_tensors, _ = HALVES[half]
    arguments = flat(of_call(case, of_tensors(case, torch.float32)))
    torch.library.opcheck(getattr(halves, f"triton_{half}"), arguments)
    detached = [x.detach() if isinstance(x, Tensor) else x for x in arguments]
    output = getattr(halves, f"triton_{half}")(*detached)
    wanted = [isinstance(x, Tensor) for x in detached[: len(TENSORS)]]
    backward = getattr(halves, f"triton_{half}_backward")
    torch.library.opcheck(backward, (torch.randn_like(output), *detached, wanted))


@pytest.mark.parametrize("half", HALVES)
def test_a_batch_of_none_gives_a_batch_of_none(half: str) -> None:
    found = results(replace(SMALL, batch=0), half, torch.float32, fused(half))
    assert found["output"].numel() == 0
    assert not found["shift_weight"].any()


@pytest.mark.parametrize("half", HALVES)
def test_operations_are_counted(half: str) -> None:
    of_call, of_tensors, _ = HALVES[half]
    call = of_call(SMALL, of_tensors(SMALL, torch.float32))
    with FlopCounterMode(display=False) as counter:
        output = fused(half)(call)
    # Six positions of one head with four channels: 9 taps, and 9 x 9 to deform them.
    forward = 2 * 6 * 4 * (9 + 81)
    assert counter.get_total_flops() == forward
    with FlopCounterMode(display=False) as counter:
        output.sum().backward()
    operator = getattr(torch.ops.slideformer, f"triton_{half}_backward")
    assert counter.get_flop_counts()["Global"][operator] == 3 * forward
