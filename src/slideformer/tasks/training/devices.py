# SPDX-License-Identifier: Apache-2.0
"""Exchange of objects other than tensors between the devices of a training."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import distributed

Share = TypeVar("Share")


def all_gather_object(share: Share) -> list[Share]:
    """Return the objects of all devices, in their order; every device must call it."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [share]
    shares: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(shares, share)
    return shares
