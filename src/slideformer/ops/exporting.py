# SPDX-License-Identifier: Apache-2.0
"""Tests whether a program is being exported, to run without this package."""

from __future__ import annotations

import torch

from slideformer.ops.constant import assumed_constant


def tracing() -> bool:
    """Whether ``torch.jit.trace`` is active, to which every size is a tensor."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


# The flag itself: inside the compiler of PyTorch 2.11, the function is True while compiling, too.
@assumed_constant
def exporting() -> bool:
    """Whether ``torch.export`` or ``torch.jit.trace`` is active, and not ``torch.compile``."""
    return torch.compiler.is_exporting() or tracing()
