# SPDX-License-Identifier: Apache-2.0
"""Exchange between the devices of a training."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import Tensor, distributed

Share = TypeVar("Share")


def all_gather_object(share: Share) -> list[Share]:
    """Return the objects of all devices, in their order; every device must call it."""
    if not several():
        return [share]
    shares: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(shares, share)
    return shares


def device_mean(x: Tensor) -> Tensor:
    """Return the mean of a floating-point tensor over all devices; every device must call it.

    No gradient goes through it to other devices.
    """
    if not several():
        return x
    total = x.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def several() -> bool:
    """Whether this process trains together with others."""
    return distributed.is_available() and distributed.is_initialized()
