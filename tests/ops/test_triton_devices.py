# SPDX-License-Identifier: Apache-2.0
"""Which GPUs the Triton backend takes, and what it says of others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from slideformer.ops import explain, slide_attention
from slideformer.ops import triton as package
from slideformer.ops.explanation import Explanation

pytestmark = pytest.mark.skipif(not package.AVAILABLE, reason="needs Triton")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A GPU that seems to be there, and to be asked for what it is."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    package.unsupported.cache_clear()
    yield monkeypatch
    package.unsupported.cache_clear()


def explained() -> Explanation:
    with FakeTensorMode():
        query = torch.zeros(1, 2, 2, 1, 4, device="cuda")
        return explain(query, query, query)


def test_a_gpu_that_triton_does_not_support_is_refused(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(package, "vendor", lambda device: "cuda")
    gpu.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    found = explained()
    assert found.chosen == "matmul"
    assert "its GPU must have compute capability 8.0, got 7.5" in found.refused["triton"]


@pytest.mark.parametrize("maker", ["hip", "xpu"])
def test_a_gpu_of_another_known_maker_is_taken(gpu: pytest.MonkeyPatch, maker: str) -> None:
    gpu.setattr(package, "vendor", lambda device: maker)
    assert explained().chosen == "triton"


def test_a_gpu_of_an_unknown_maker_is_refused(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(package, "vendor", lambda device: "new")
    found = explained()
    assert found.chosen == "matmul"
    assert "(cuda, hip, xpu), got Triton's backend 'new'" in found.refused["triton"]


def test_a_gpu_without_a_driver_of_triton_is_refused(gpu: pytest.MonkeyPatch) -> None:
    def vendor(device: torch.device) -> str:
        raise RuntimeError("0 active drivers")

    gpu.setattr(package, "vendor", vendor)
    assert "Triton cannot use the device: 0 active drivers" in explained().refused["triton"]


def test_a_compiler_that_fails_is_an_error_of_its_own(gpu: pytest.MonkeyPatch) -> None:
    def vendor(device: torch.device) -> str:
        raise RuntimeError("Failed to find C compiler")

    gpu.setattr(package, "vendor", vendor)
    with pytest.raises(RuntimeError, match="Failed to find C compiler"):
        explained()


def test_unasked_it_is_chosen_on_a_gpu() -> None:
    with FakeTensorMode():
        query = torch.zeros(1, 2, 2, 1, 4, device="cuda")
        assert explain(query, query, query).chosen == "triton"
        assert slide_attention(query, query, query).shape == query.shape
        assert explain(*[query.double()] * 3).chosen == "matmul"
