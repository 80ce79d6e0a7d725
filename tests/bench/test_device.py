# SPDX-License-Identifier: Apache-2.0
"""Time of a GPU: the sum over its kernels; without one there is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity

from slideformer.bench import device


def never() -> tuple[()]:
    raise AssertionError("nothing is measured on a CPU")


def test_a_cpu_has_no_time_of_a_device() -> None:
    assert device.device_ms(never, "cpu") is None


class Watched:
    """A profile in which a GPU has worked twice, and PyTorch has counted that for itself, too."""

    def __init__(self, activities: list[Any]) -> None:
        pass

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *reason: object) -> None:
        pass

    def key_averages(self) -> list[Any]:
        found = (DeviceType.CUDA, 3000.0, False), (DeviceType.CUDA, 1000.0, False)
        twice = (DeviceType.CPU, 4000.0, False), (DeviceType.CUDA, 4000.0, True)
        return [
            SimpleNamespace(device_type=kind, self_device_time_total=time, is_user_annotation=named)
            for kind, time, named in (*found, *twice)
        ]


def test_the_time_of_a_gpu_is_the_sum_of_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def step() -> Any:
        steps.append(1)

    monkeypatch.setattr(device, "profile", Watched)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert device.device_ms(step, "cuda") == pytest.approx(4.0 / len(steps))


def test_a_profile_knows_what_is_read_of_it() -> None:
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as watched:
        torch.ones(2).sum()
    event = watched.key_averages()[0]
    assert event.device_type == DeviceType.CPU
    assert event.self_device_time_total == 0
