# SPDX-License-Identifier: Apache-2.0
"""Fused GPU kernels, forward and backward, written in Triton.

Triton is imported with the first call, not with this package: on a machine without it, everything else works.
"""

from __future__ import annotations

import importlib.util
import os

import torch
from torch import Tensor

from slideformer.ops.call import Call
from slideformer.ops.constant import assumed_constant
from slideformer.ops.exporting import exporting

AVAILABLE = importlib.util.find_spec("triton") is not None
# Triton's own interpreter runs the kernels on a CPU: for tests, which then let CPU tensors pass.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICES = ("cuda",)
# The oldest GPUs that Triton supports.
CAPABILITY = (8, 0)
# Longest line of taps, with a place for the bias, of which the gradient of a shift fits into shared memory.
COLUMNS = 63


# A graph of operations cannot contain this call.
@assumed_constant
def capability(device: torch.device) -> tuple[int, int]:
    """Compute capability of a GPU; that of the oldest supported one where there is only a fake tensor."""
    real = device.type == "cuda" and torch.cuda.is_available()
    return torch.cuda.get_device_capability(device) if real else CAPABILITY


def refusal(call: Call) -> str | None:
    """The reason why these kernels cannot take a call, as a sentence, or None."""
    if not AVAILABLE:
        return "Triton is not installed; use pip install triton"
    if exporting():
        return "its operators exist in this package only, and the exported graph runs elsewhere"
    if call.query.device.type not in DEVICES:
        return f"its tensors must be on a CUDA device, got {call.query.device}; use .cuda()"
    found = capability(call.query.device)
    if found < CAPABILITY:
        return f"its GPU must have compute capability 8.0, got {found[0]}.{found[1]}; use backend='matmul'"
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
