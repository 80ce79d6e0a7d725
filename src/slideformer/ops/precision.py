# SPDX-License-Identifier: Apache-2.0
"""Autocast, and how the operator keeps its own precision under it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

# Asked once, here: `torch.compile` of PyTorch 2.11 breaks the graph where it meets the question.
AUTOCAST_DEVICES = frozenset(
    device for device in ("cpu", "cuda", "mps", "xpu") if torch.amp.is_autocast_available(device)
)


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on for the device of a tensor."""
    device = x.device.type
    return device in AUTOCAST_DEVICES and torch.is_autocast_enabled(device)


def own_precision(like: Tensor) -> AbstractContextManager[None]:
    """Keep autocast out of the backends, which choose their own precision: it would round the logits."""
    # Only where it is on: an exported graph would carry the context as a sub-graph.
    return torch.autocast(like.device.type, enabled=False) if autocasts(like) else nullcontext()
