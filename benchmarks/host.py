# SPDX-License-Identifier: Apache-2.0
"""Processor time that Python takes for a call of the Triton backend, in microseconds, as JSON.

``python benchmarks/host.py``. No GPU is needed: kernels are compiled for a Hopper GPU, tensors are on the
CPU, and a launch does nothing. The driver's own launch takes some microseconds more.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)

import torch
import triton
from torch import Tensor
from torch.nn import Parameter
from triton.backends.compiler import GPUTarget
from triton.runtime.autotuner import Autotuner

from slideformer.ops import slide_attention
from slideformer.ops import triton as package

# Batch, map, heads and channels of the first stage of Slide-Swin-T; small, as nothing is computed.
SHAPE = (1, 8, 8, 3, 32)
CALLS, ROUNDS = 100, 30


class Utilities:
    """As much of the driver's functions as loading a kernel asks for."""

    def get_device_properties(self, device: int) -> dict[str, int]:
        """Sizes of an H100."""
        return {"max_shared_mem": 227 * 1024, "multiprocessor_count": 132}

    def load_binary(self, *arguments: Any) -> tuple[int, int, int, int, int]:
        """Module, function, registers, spilled bytes and the most threads of a program."""
        return 1, 1, 0, 0, 1024

    def unload_module(self, module: int) -> None:
        """Forget a module."""


class Launcher:
    """A launch that does nothing."""

    def __init__(self, source: Any, metadata: Any) -> None:
        pass

    def __call__(self, *arguments: Any) -> None:
        """Start nothing."""


class Idle:
    """A driver of a Hopper GPU that is not there."""

    launcher_cls, utils = Launcher, Utilities()

    def get_current_target(self) -> GPUTarget:
        """Kind of GPU."""
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        """Number of the GPU."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """Number of the stream."""
        return 0


def maps(heads: int, *, grad: bool = False) -> list[Tensor]:
    """Query, key and value, views of one tensor as a layer hands them over."""
    batch, height, width, _, channels = SHAPE
    joint = torch.zeros(batch, height, width, 3 * heads, channels, dtype=torch.bfloat16)
    return [x.requires_grad_(grad) for x in joint.chunk(3, dim=-2)]


def calls() -> dict[str, Callable[[], object]]:
    """Each measured call by name."""
    deformed, three, seven = maps(3), maps(3), maps(2)
    trained, weight = maps(3, grad=True), torch.zeros(32, 9, 9)
    frozen = Parameter(weight.clone(), requires_grad=False)
    parameter = weight.clone().requires_grad_()

    def backward() -> object:
        output = slide_attention(*trained, shift_weight=parameter, backend="triton")
        return torch.autograd.grad(output, [*trained, parameter], output.detach())

    return {
        "deformed, k = 3": lambda: slide_attention(*deformed, shift_weight=frozen, backend="triton"),
        "deformed, k = 3, trained": lambda: slide_attention(
            *deformed, shift_weight=parameter, backend="triton"
        ),
        "plain, k = 3": lambda: slide_attention(*three, backend="triton"),
        "plain, k = 7, clamp": lambda: slide_attention(
            *seven, kernel_size=7, border="clamp", backend="triton"
        ),
        "deformed, k = 3, forward + backward": backward,
    }


def microseconds(call: Callable[[], object]) -> dict[str, float]:
    """Best and median time of a call over some rounds."""
    times = []
    for _ in range(ROUNDS):
        start = time.thread_time()
        for _ in range(CALLS):
            call()
        times.append((time.thread_time() - start) / CALLS * 1e6)
    return {"best_us": round(min(times), 1), "median_us": round(statistics.median(times), 1)}


def main() -> None:
    """Measure all calls and print them."""
    triton.runtime.driver.set_active(Idle())
    Autotuner._bench = lambda self, *arguments, **options: [0.0]
    package.DEVICES = (*package.DEVICES, "cpu")
    torch.set_num_threads(1)
    found = {}
    for name, call in calls().items():
        with torch.set_grad_enabled("backward" in name):
            call()
            found[name] = microseconds(call)
    print(json.dumps({"triton": triton.__version__, "torch": torch.__version__, "calls": found}, indent=2))


if __name__ == "__main__":
    main()
