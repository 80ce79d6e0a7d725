# SPDX-License-Identifier: Apache-2.0
"""Fused GPU kernels, forward and backward, written in Triton.

Triton is imported with the first call, not with this package: on a machine without it, everything else works.
"""

from __future__ import annotations

import importlib.util
import os
from functools import lru_cache

import torch
from torch import Tensor

from slideformer.ops.call import Call
from slideformer.ops.constant import assumed_constant
from slideformer.ops.exporting import exporting

AVAILABLE = importlib.util.find_spec("triton") is not None
# Triton's own interpreter runs the kernels on a CPU: for tests, which then let CPU tensors pass.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICES = ("cuda", "xpu")
# By the name that Triton has for the maker of a GPU (NVIDIA, AMD, Intel): how its matrix units multiply
# float32 numbers without losing their precision, by three products of parts or as they are.
PRECISIONS = {"cuda": "tf32x3", "hip": "ieee", "xpu": "ieee"}
# The oldest of NVIDIA's GPUs that Triton supports.
CAPABILITY = (8, 0)
# Longest line of taps of a deformed shift that the kernels are compiled and tested for.
COLUMNS = 63


def vendor(device: torch.device) -> str:
    """Triton's name for the maker of a GPU; PyTorch's name of AMD's GPUs is "cuda", too.

    Raises:
        RuntimeError: Triton has no driver for it.
    """
    if device.type in ("cuda", "xpu") and torch.get_device_module(device).is_available():
        from triton.runtime import driver

        return str(driver.active.get_current_target().backend)
    # Of a fake tensor, or the interpreter's.
    return "xpu" if device.type == "xpu" else "cuda"


@lru_cache
def unsupported(device: torch.device) -> str | None:
    """The reason why there are no kernels for a device, as a sentence, or None."""
    try:
        found = vendor(device)
    except RuntimeError as error:
        # Anything else, such as a compiler that fails, is an error and not a device that has no kernels.
        if "active drivers" not in str(error):
            raise
        return f"Triton cannot use the device: {error}"
    if found not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        return f"its GPU must be one that the kernels know ({known}), got Triton's backend {found!r}"
    if found == "cuda" and device.type == "cuda" and torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability(device)
        if (major, minor) < CAPABILITY:
            return f"its GPU must have compute capability 8.0, got {major}.{minor}; use backend='matmul'"
    return None


# A compiler cannot put what this asks into its graph.
@assumed_constant
def no_kernels(device: torch.device) -> str | None:
    """The same, for a compiler too."""
    return unsupported(device)


def refusal(call: Call) -> str | None:
    """The reason why these kernels cannot take a call, as a sentence, or None."""
    if not AVAILABLE:
        return "Triton is not installed; use pip install triton"
    if exporting():
        return "its operators exist in this package only, and the exported graph runs elsewhere"
    device = call.query.device
    if device.type not in DEVICES:
        return f"its tensors must be on a CUDA or XPU device, got {device}; use .cuda()"
    reason = no_kernels(device)
    if reason is not None:
        return reason
    if call.query.dtype == torch.float64:
        return f"its dtype must be float32, float16 or bfloat16, got {call.query.dtype}; use .float()"
    columns = call.window.kernel_size[-1]
    if call.deformed and columns > COLUMNS:
        return f"a shift must have at most {COLUMNS} taps along the last axis, got {columns}; use 'matmul'"
    return None


def attend(call: Call) -> Tensor:
    """Slide attention by fused kernels; first derivatives only."""
    from slideformer.ops.triton import operators

    return operators.attend(call)


def logits(call: Call) -> Tensor:
    """The first half by fused kernels."""
    from slideformer.ops.triton import halves

    return halves.logits(call)


def values(call: Call) -> Tensor:
    """The second half by fused kernels."""
    from slideformer.ops.triton import halves

    return halves.values(call)
