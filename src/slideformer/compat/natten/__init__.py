# SPDX-License-Identifier: Apache-2.0
"""NATTEN's interface: in an import, write ``slideformer.compat.natten`` for ``natten``.

Names, arguments and layouts are those of NATTEN 0.14 to 0.21. Options that slideformer lacks are rejected
when they have another value than the usual one.
"""

from slideformer.compat.natten import functional
from slideformer.compat.natten.functional import na1d, na2d, na3d
from slideformer.compat.natten.modules import (
    NeighborhoodAttention1D,
    NeighborhoodAttention2D,
    NeighborhoodAttention3D,
)

__all__ = [
    "NeighborhoodAttention1D",
    "NeighborhoodAttention2D",
    "NeighborhoodAttention3D",
    "functional",
    "has_fused_na",
    "na1d",
    "na2d",
    "na3d",
]


def has_fused_na() -> bool:
    """Whether `na1d`, `na2d` and `na3d` are there, which code for NATTEN 0.17 asks first."""
    return True
