# SPDX-License-Identifier: Apache-2.0
"""What the devices of a training tell each other beside tensors."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import distributed

Share = TypeVar("Share")


def exchanged(share: Share) -> list[Share]:
    """The shares of all devices, in their order; every device must ask."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [share]
    shares: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(shares, share)
    return shares
