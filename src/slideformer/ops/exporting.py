# SPDX-License-Identifier: Apache-2.0
"""Whether a program is being exported, to run where this package is not."""

from __future__ import annotations

import torch

from slideformer.ops.constant import assumed_constant


def tracing() -> bool:
    """Whether ``torch.jit.trace`` is at work, to which every size is a tensor."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


# The flag itself: asked directly, the compiler of PyTorch 2.11 answers True to whoever compiles, too.
@assumed_constant
def exporting() -> bool:
    """Whether ``torch.export`` or ``torch.jit.trace`` is at work, and not ``torch.compile``."""
    return torch.compiler.is_exporting() or tracing()
