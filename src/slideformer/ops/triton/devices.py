# SPDX-License-Identifier: Apache-2.0
"""Differences between the GPUs that Triton compiles for."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
import triton
from torch import Tensor

from slideformer.ops.triton import INTERPRETED, PRECISIONS

# Where there is no GPU: the interpreter has no threads, and programs of any number are right.
WARP, PROCESSORS = 32, 132


def float32_precision() -> str:
    """How matrix units multiply float32 numbers without losing their precision."""
    maker = "cuda" if INTERPRETED else triton.runtime.driver.active.get_current_target().backend
    return PRECISIONS[maker]


def warp_size() -> int:
    """Threads of a warp."""
    return WARP if INTERPRETED else int(triton.runtime.driver.active.get_current_target().warp_size)


def processors(device: torch.device) -> int:
    """Multiprocessors, each of which runs programs of its own."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).multi_processor_count
    return torch.xpu.get_device_properties(device).gpu_subslice_count if device.type == "xpu" else PROCESSORS


def current(like: Tensor) -> AbstractContextManager[None]:
    """Make the device of a tensor the one that kernels are launched on."""
    return torch.xpu.device_of(like) if like.is_xpu else torch.cuda.device_of(like)


def stream_of(device: torch.device) -> int | None:
    """The stream that kernels are launched on; None while it is captured, to run again later."""
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return None
    return 0 if INTERPRETED else int(triton.runtime.driver.active.get_current_stream(device.index or 0))
