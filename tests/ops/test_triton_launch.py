# SPDX-License-Identifier: Apache-2.0
"""What the Triton backend holds between calls: launches, and the shift as kernels read it."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from slideformer.ops import slide_attention
from slideformer.ops import triton as package

from .cases import assert_agrees
from .test_triton import EVERYTHING

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs Triton", allow_module_level=True)

from slideformer.ops.triton import launch, packing, plans

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="tests/gpu runs the kernels themselves")


@pytest.fixture(autouse=True)
def _cpu_tensors_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "DEVICES", ("cuda", "cpu"))


class Compiled:
    """A compiled kernel that counts its launches."""

    def __init__(self) -> None:
        self.launched: list[tuple[Any, ...]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda *arguments: self.launched.append((grid, *arguments))


class Kernel:
    """A kernel that Triton would compile for each alignment of x."""

    arg_names = ("x", "size", "y", "BLOCK_H")

    def __init__(self) -> None:
        self.compiled: list[Compiled] = []

    def __getitem__(self, grid: Any) -> Any:
        def launched(**arguments: Any) -> Compiled:
            assert grid({"BLOCK_H": 4}) == (3,)
            self.compiled.append(Compiled())
            return self.compiled[-1]

        return launched


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(launch, "CompiledKernel", Compiled)
    return Kernel()


def test_a_launch_is_resolved_once(kernel: Kernel) -> None:
    held = launch.Launch(kernel, lambda constants: (12 // constants["BLOCK_H"],), size=12)
    x, y = torch.zeros(2, 16)
    for _ in range(3):
        held(x, y)
    (compiled,) = kernel.compiled
    assert compiled.launched == [((3, 1, 1), x, 12, y, None)] * 2


def test_another_alignment_is_resolved_anew(kernel: Kernel) -> None:
    held = launch.Launch(kernel, lambda constants: (3,), size=12)
    x = torch.zeros(16)
    for tensors in ((x, None), (x[1:], None), (x, x), (x, None)):
        held(*tensors)
    assert [len(compiled.launched) for compiled in kernel.compiled] == [1, 0, 0]


def test_a_kernel_that_is_not_compiled_is_not_held() -> None:
    class Interpreted(Kernel):
        def __getitem__(self, grid: Any) -> Any:
            def launched(**arguments: Any) -> None:
                self.compiled.append(Compiled())

            return launched

    kernel = Interpreted()
    held = launch.Launch(kernel, lambda constants: (3,), size=12)
    for _ in range(2):
        held(torch.zeros(16), None)
    assert len(kernel.compiled) == 2


def test_calls_of_one_kind_share_a_plan_and_no_memory() -> None:
    query, key, value = (torch.zeros(1, 2, 3, 1, 4) for _ in range(3))
    options = [3, 3], [1, 1], ["zeros", "zeros"], 0.5
    plan = plans.plan_for((query, key, value, *[None] * 5, *options))
    seen, query = weakref.ref(query), torch.ones_like(query)
    gc.collect()
    assert seen() is None
    assert plans.plan_for((query, key, value, *[None] * 5, *options)) is plan
    strided = torch.zeros(1, 2, 3, 1, 8)[..., ::2]
    assert plans.plan_for((strided, key, value, *[None] * 5, *options)) is not plan


def deformed(weight: Tensor, bias: Tensor | None = None, backend: str = "triton") -> Tensor:
    maps = torch.randn(3, 1, 2, 2, 1, 4, generator=torch.Generator().manual_seed(0))
    return slide_attention(*maps, shift_weight=weight, shift_bias=bias, backend=backend)


def assert_right(weight: Tensor, bias: Tensor | None = None) -> None:
    torch.testing.assert_close(deformed(weight, bias), deformed(weight, bias, "reference"))


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry each time that a shift is packed."""
    found, pack = [], packing.pack

    def counted(*arguments: Any) -> Tensor:
        found.append(1)
        return pack(*arguments)

    monkeypatch.setattr(packing, "pack", counted)
    return found


def frozen(*shape: int) -> Parameter:
    return Parameter(torch.randn(shape), requires_grad=False)


def test_a_frozen_shift_is_packed_once(packs: list[int]) -> None:
    weight, bias = frozen(4, 9, 9), frozen(4, 9)
    for _ in range(3):
        assert_right(weight, bias)
    assert len(packs) == 1


def test_a_shift_that_changed_is_packed_again(packs: list[int]) -> None:
    weight, bias = frozen(4, 9, 9), frozen(4, 9)
    assert_right(weight, bias)
    weight.mul_(2)
    assert_right(weight, bias)
    bias[0] += 1
    assert_right(weight, bias)
    weight.data = torch.randn(4, 9, 9)
    assert_right(weight, bias)
    assert_right(weight, frozen(4, 9))
    assert_right(weight)
    assert len(packs) == 6


def test_a_shift_that_is_trained_or_not_counted_is_packed_in_every_call(packs: list[int]) -> None:
    trained, computed = Parameter(torch.randn(4, 9, 9)), torch.randn(4, 9, 9)
    with torch.inference_mode():
        uncounted = frozen(4, 9, 9)
        for weight in (trained, computed, uncounted):
            for _ in range(2):
                assert_right(weight)
    assert len(packs) == 6


def test_a_shift_in_memory_of_another_is_not_taken_for_it() -> None:
    """Compiled programs write to memory again, past PyTorch's count of changes."""
    weight = torch.randn(4, 9, 9)
    assert_right(weight)
    ctypes.memset(weight.data_ptr(), 0, weight.nbytes)
    assert_right(weight)


def test_a_captured_program_packs_for_itself(packs: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    weight = frozen(4, 9, 9)
    for stream in (1, 1, 2, None, None):
        monkeypatch.setattr(packing, "stream_of", lambda device, stream=stream: stream)
        assert_right(weight)
    assert len(packs) == 4


def test_a_packed_shift_goes_with_its_weight() -> None:
    weight = frozen(4, 9, 9)
    deformed(weight)
    number = id(weight)
    assert number in packing.KEPT
    del weight
    gc.collect()
    assert number not in packing.KEPT


def test_threads_may_share_what_is_held(kernel: Kernel) -> None:
    held = launch.Launch(kernel, lambda constants: (3,), size=12)
    x = torch.zeros(16)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: held(x, None), range(200)))
    assert len(kernel.compiled) + sum(len(compiled.launched) for compiled in kernel.compiled) == 200


@pytest.mark.parametrize("multiprocessors", [1, 1000])
def test_the_gradient_of_a_shift_is_shared_by_as_many_programs_as_fit(
    multiprocessors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "processors", lambda device: multiprocessors)
    monkeypatch.setattr(plans, "PROGRAMS", 1)
    plans.plan_of.cache_clear()
    assert_agrees(replace(EVERYTHING, size=(3, 17), heads=1, channels=4), "triton", torch.float32)
    plans.plan_of.cache_clear()
