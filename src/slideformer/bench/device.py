# SPDX-License-Identifier: Apache-2.0
"""Time that a GPU itself works on a step, whatever Python takes to start it."""

from __future__ import annotations

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from slideformer.bench.candidate import Step

# Calls of which the mean is taken.
CALLS = 10


def device_ms(step: Step, device: str) -> float | None:
    """Mean milliseconds that a GPU works on a step, the sum over its kernels and copies; None on a CPU.

    The step must have run before. The same as the wall time where the GPU is never idle, and less where it
    waits for Python; a CUDA graph of the step would take about this long.
    """
    if torch.device(device).type != "cuda":
        return None
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as watched:
        for _ in range(CALLS):
            step()
        torch.cuda.synchronize()
    microseconds = sum(
        event.self_device_time_total
        for event in watched.key_averages()
        # Ranges that a program names cover kernels that are counted themselves.
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    )
    return float(microseconds) / 1000 / CALLS
