# SPDX-License-Identifier: Apache-2.0
"""Precision of the operator under autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor

# Computed once, here: `torch.compile` of PyTorch 2.11 breaks the graph at this call.
AUTOCAST_DEVICES = frozenset(
    device for device in ("cpu", "cuda", "mps", "xpu") if torch.amp.is_autocast_available(device)
)
Optional = TypeVar("Optional", Tensor, Tensor | None)
HALVES = (torch.float16, torch.bfloat16)


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on for the device of a tensor."""
    device = x.device.type
    return device in AUTOCAST_DEVICES and torch.is_autocast_enabled(device)


def own_precision(like: Tensor) -> AbstractContextManager[None]:
    """Keep autocast out of the backends, which choose their own precision: it would round the logits."""
    # Only where it is on: an exported graph would carry the context as a sub-graph.
    return torch.autocast(like.device.type, enabled=False) if autocasts(like) else nullcontext()


def autocast_maps(*maps: Tensor) -> tuple[Tensor, ...]:
    """Cast maps of different dtypes to that of autocast, as it does for `F.scaled_dot_product_attention`.

    Maps of one dtype stay in it, and float64 is never cast.
    """
    dtypes = {x.dtype for x in maps}
    if len(dtypes) == 1 or torch.float64 in dtypes:
        return maps
    return tuple(x.to(torch.get_autocast_dtype(x.device.type)) for x in maps)


def autocast_parameter(x: Optional, like: Tensor) -> Optional:
    """A parameter for maps of any dtype: half precision that the maps do not share becomes float32."""
    return x.float() if isinstance(x, Tensor) and x.dtype in HALVES and x.dtype != like.dtype else x
